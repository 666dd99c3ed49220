"""One sparse feed-forward layer, router included, against its limits and its peers: `make bench`.

Every layer of a point is timed in one run, interleaved, on one thread, as CPU time of the process, and told
as a ratio to a dense layer of the same active compute.
"""

import logging
import warnings
from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import nn

from apps.common.compare.results import write_results
from apps.common.compare.schema import Row
from benchmarks.contestants import CONTESTANTS
from benchmarks.grid import FULL, QUICK, Point
from benchmarks.layers import CannotRunError, dense, input_shape
from benchmarks.memory import peak_megabytes
from benchmarks.page import PAGE, RESULTS, tables
from benchmarks.parts import shares
from benchmarks.results import results, row
from benchmarks.routers import POINTS as ROUTER_POINTS
from benchmarks.routers import ROUTERS, TOPK, Layer, experts_a_token
from benchmarks.timing import MODES, Contestant, race, warm_allocator

BAR = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()


def main(quick: bool = False, rounds: int = 10) -> None:
    """Time the MoE layer; write docs/results/moe_layer.json and the tables of docs/performance.md.

    Args:
        quick: A look at five points: the tables are printed, and nothing is written.
        rounds: How often every layer is run at the largest points, four times as often at the others; the
            least time counts.
    """
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    points = QUICK if quick else FULL
    rows: list[Row] = []
    left_out: dict[str, dict[str, str]] = {}
    with Progress(*BAR) as progress:
        turns = sum(_turns(point, rounds) for point in (*points, *([] if quick else ROUTER_POINTS)))
        task = progress.add_task("", total=turns)
        for point in points:
            _announce(progress, task, point.name)
            layers, left_out[point.name] = _build(point)
            rows += _measure(point, layers, _turns(point, rounds), lambda: progress.advance(task))
        for point in [] if quick else ROUTER_POINTS:
            _announce(progress, task, f"routers {point.name}")
            rows += _measure_routers(point, _turns(point, rounds), lambda: progress.advance(task))
    measured = results("moe_layer", "make bench", rows, {"rounds": rounds, "left_out": left_out})
    if quick:
        Console().print(Markdown(tables(measured)))
        return
    write_results(RESULTS, measured)
    PAGE.refresh()


def _announce(progress: Progress, task: TaskID, name: str) -> None:
    """Say what is timed now: in the bar, or in a line of its own where there is no terminal."""
    progress.update(task, description=f"{name:>25}")
    if not progress.console.is_terminal:
        print(f"{name}, {progress.tasks[task].percentage:.0f}% done", flush=True)


def _turns(point: Point, rounds: int) -> int:
    return rounds if point.tokens * point.width > 2**20 else 4 * rounds


def _build(point: Point) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The layers that run at this point, and why the others do not."""
    layers, left_out = {}, {}
    for name, build in CONTESTANTS.items():
        torch.manual_seed(0)
        try:
            layers[name] = build(point)
        except CannotRunError as reason:
            left_out[name] = str(reason)
    return layers, left_out


def _measure(point: Point, layers: dict[str, nn.Module], rounds: int, tick: Callable[[], None]) -> list[Row]:
    warm_allocator()
    contestants = {name: Contestant(layer, input_shape(layer, point)) for name, layer in layers.items()}
    seconds = race(contestants, rounds, tick)
    rows = [
        _row(point, part, "share_of_dense", share, 0, None, "parts")
        for part, share in (shares(point, rounds) if point in QUICK else {}).items()
    ]
    for name, layer in layers.items():
        megabytes = peak_megabytes(name, point) if point in QUICK else None
        total = sum(parameter.numel() for parameter in layer.parameters())
        for mode in MODES:
            ratio = seconds[mode][name] / seconds[mode]["dense"]
            rows.append(_row(point, name, f"ratio_{mode}", ratio, total, megabytes))
            if name == "dense":
                rows.append(_row(point, name, f"seconds_{mode}", seconds[mode][name], total, megabytes))
    return rows


def _measure_routers(point: Point, rounds: int, tick: Callable[[], None]) -> list[Row]:
    """The layer with every router, as a ratio to that with top-k, and how many experts a token runs."""
    warm_allocator()
    shape = input_shape(dense(point), point)
    layers = {name: Layer(name, point) for name in ROUTERS}
    contestants = {name: Contestant(layer, shape) for name, layer in layers.items()}
    seconds = race({"dense": Contestant(dense(point), shape), **contestants}, rounds, tick)
    rows = []
    for name, layer in layers.items():
        total = sum(parameter.numel() for parameter in layer.parameters())
        found = {f"ratio_{mode}": seconds[mode][name] / seconds[mode][TOPK] for mode in MODES}
        found["experts_a_token"] = experts_a_token(layer, contestants[name].x)
        rows += [_row(point, name, metric, value, total, None, "routers") for metric, value in found.items()]
    return rows


def _row(
    point: Point,
    arm: str,
    metric: str,
    value: float,
    total_params: int,
    megabytes: float | None,
    slice_: str = "all",
) -> Row:
    active = {"active_params": point.active_params, "active_flops": float(2 * point.active_params)}
    held = {"total_params": total_params, "peak_memory_mb": megabytes}
    return row(point.name, arm, metric, value, slice_, **active, **held)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
