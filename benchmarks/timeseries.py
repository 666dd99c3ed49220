"""Training speed, latency and memory of the forecasters of the comparison: `make bench APP=timeseries`.

All run in one process on one thread, in turn and each round in another order; what counts is CPU time, the
least of all rounds. Peak memory is that of one training step, each in a process of its own.
"""

import logging
import math
import random
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jsonargparse import auto_cli
from rich.progress import track
from torch import Tensor

from apps.common.compare.places import config_file, results_folder
from apps.common.compare.profile import read_profile
from apps.common.compare.results import read_results, write_results
from apps.common.compare.schema import Results, Row
from apps.common.discovery import project_root
from apps.common.files import write_text
from apps.common.markdown import between, table
from apps.timeseries.comparison.contenders import build
from apps.timeseries.model import Forecaster
from apps.timeseries.windows import Batch
from benchmarks.memory import in_own_process, peak_of
from benchmarks.results import results, row
from benchmarks.timing import cpu_seconds, no_collection, warm_allocator

RESULTS = results_folder() / "forecasters.json"
PAGE = project_root() / "apps" / "timeseries" / "README.md"
PEER = "patchtst"
BATCH = 128
METRICS = {"train_windows_per_second": True, "forecast_windows_per_second": True, "latency_ms": False}
"""Whether higher is better."""


def main(rounds: int = 7) -> None:
    """Measure; write docs/results/forecasters.json and the table of apps/timeseries/README.md.

    Args:
        rounds: How often each network trains and forecasts; the least time counts.
    """
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    budget = read_profile(config_file("timeseries"), "full").budget
    names = [name for name in budget["networks"] if name != "zero_shot"]
    seconds = measure({name: calls(name, budget) for name in names}, rounds)
    rows = [each for name in names for each in _rows(name, budget, seconds[name])]
    told = {"rounds": rounds, "batch": BATCH}
    write_results(RESULTS, results("forecasters", "make bench APP=timeseries", rows, told))
    refresh()


def calls(name: str, budget: Mapping[str, Any]) -> dict[str, Callable[[], object]]:
    """What is timed of one network, by metric: a training step, a large batch and a single window."""
    torch.manual_seed(0)
    network = build(name, budget, "routed", {})
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    context, horizon = budget["context"], max(budget["horizons"])
    many, one = batch(BATCH, context, horizon), batch(1, context, horizon)
    return {
        "train_windows_per_second": partial(step, network, optimiser, many),
        "forecast_windows_per_second": partial(forecast, network, many, horizon),
        "latency_ms": partial(forecast, network, one, horizon),
    }


def batch(size: int, context: int, horizon: int) -> Batch:
    """Random walks, each window for itself."""
    walk = torch.randn(size, context + horizon, generator=torch.Generator().manual_seed(0)).cumsum(1)
    seen = torch.ones_like(walk, dtype=torch.bool)
    number = torch.arange(size)
    return Batch(
        context=walk[:, :context],
        context_mask=seen[:, :context],
        target=walk[:, context:],
        target_mask=seen[:, context:],
        channel=number,
        start=number,
        hour=number,
        weekday=number,
        group=number,
    )


def step(network: Forecaster, optimiser: torch.optim.Optimizer, data: Batch) -> None:
    """One step of training."""
    optimiser.zero_grad()
    loss, _ = network.train().loss(data)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


@torch.no_grad()
def forecast(network: Forecaster, data: Batch, horizon: int) -> Tensor:
    """Forecast the longest horizon."""
    return network.eval().forecast_batch(data, horizon)


def measure(
    contenders: Mapping[str, Mapping[str, Callable[[], object]]], rounds: int
) -> dict[str, dict[str, float]]:
    """Seconds of every call, by name and metric: the least of all rounds."""
    warm_allocator()
    best = {name: dict.fromkeys(timed, math.inf) for name, timed in contenders.items()}
    order = list(contenders)
    with no_collection():
        for turn in track(range(rounds), "Timing"):
            random.Random(turn).shuffle(order)
            for name in order:
                for metric, call in contenders[name].items():
                    best[name][metric] = min(best[name][metric], cpu_seconds(call))
    return best


def step_megabytes(name: str, budget: Mapping[str, Any]) -> float:
    """Peak memory of a training step after the first one, which makes the optimiser's state."""
    step = calls(name, budget)["train_windows_per_second"]
    step()
    return peak_of(step)


def _rows(name: str, budget: Mapping[str, Any], seconds: Mapping[str, float]) -> list[Row]:
    network = build(name, budget, "routed", {})
    total = sum(p.numel() for p in network.parameters())
    megabytes = in_own_process(step_megabytes, name, budget)
    values = {
        "train_windows_per_second": BATCH / seconds["train_windows_per_second"],
        "forecast_windows_per_second": BATCH / seconds["forecast_windows_per_second"],
        "latency_ms": 1000 * seconds["latency_ms"],
    }
    known: dict[str, Any] = {"total_params": total, "peak_memory_mb": megabytes}
    data = f"L{budget['context']}-H{max(budget['horizons'])}"
    return [
        row(data, name, metric, value, higher_is_better=METRICS[metric], **known)
        for metric, value in values.items()
    ]


def refresh() -> None:
    """Write the table between the markers of the page anew."""
    write_text(PAGE, fresh_page())


def fresh_page() -> str:
    """The page with the table of the result file."""
    text = tables(read_results(RESULTS)) if RESULTS.exists() else "Not measured yet."
    return between("bench:timeseries", text, PAGE.read_text(encoding="utf-8"))


def tables(measured: Results) -> str:
    """Each figure, and in brackets its ratio to that of PatchTST."""
    found = {(each["arm"], each["metric"]): each["value"] for each in measured["rows"]}
    memory = {each["arm"]: each["peak_memory_mb"] for each in measured["rows"]}
    body = []
    for arm in memory:
        cells = [_beside(found[arm, metric], found[PEER, metric]) for metric in METRICS]
        own, peer = memory[arm], memory[PEER]
        cells.append("-" if own is None or peer is None else _beside(own, peer))
        body.append([arm, *cells])
    head = [
        "network",
        "training, windows/s",
        "forecasts, windows/s",
        "one forecast, ms",
        "peak of a step, MB",
    ]
    origin = (
        f"{measured['environment']['cpu']}, one thread, torch {measured['environment']['torch']}, commit "
        f"`{measured['commit'][:10]}`, `{measured['command']}`; in brackets the ratio to {PEER}."
    )
    return f"{table(head, body)}\n\n{origin}"


def _beside(value: float, peer: float) -> str:
    return f"{value:,.4g} ({value / peer:.2f})"


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
