"""Training speed, latency and memory of the forecasters of the comparison: `make bench APP=timeseries`.

All run in one process on one thread, in turn and each round in another order; what counts is CPU time, the
least of all rounds. Peak memory is that of one training step, each in a process of its own.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor

from apps.common.compare.places import config_file, results_folder
from apps.common.compare.profile import Profile, read_profile
from apps.common.compare.results import write_results
from apps.common.compare.schema import Results, Row
from apps.common.discovery import project_root
from apps.timeseries.comparison.contenders import build
from apps.timeseries.model import Forecaster
from apps.timeseries.windows import Batch
from benchmarks.beside import of_metrics
from benchmarks.memory import in_own_process, peak_of
from benchmarks.results import Page, results, row
from benchmarks.timing import least

RESULTS = results_folder() / "forecasters.json"
PEER = "patchtst"
BATCH = 128
METRICS = {"train_windows_per_second": True, "forecast_windows_per_second": True, "latency_ms": False}
"""Whether higher is better."""
TITLES = {
    "train_windows_per_second": "training, windows/s",
    "forecast_windows_per_second": "forecasts, windows/s",
    "latency_ms": "one forecast, ms",
}


def main(rounds: int = 7) -> None:
    """Measure; write docs/results/forecasters.json and the table of apps/timeseries/README.md.

    Args:
        rounds: How often each network trains and forecasts; the least time counts.
    """
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    profile = read_profile(config_file("timeseries"), "full")
    budget = profile.budget
    names = contenders(profile)
    seconds = least({name: calls(name, budget) for name in names}, rounds)
    rows = [each for name in names for each in _rows(name, budget, seconds[name])]
    told = {"rounds": rounds, "batch": BATCH}
    write_results(RESULTS, results("forecasters", "make bench APP=timeseries", rows, told))
    PAGE.refresh()


def contenders(profile: Profile) -> list[str]:
    """Networks that are arms of a profile, but one that is another by its weights alone."""
    return [name for name in profile.budget["networks"] if name in profile.arms and name != "zero_shot"]


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


def step_megabytes(name: str, budget: Mapping[str, Any]) -> float:
    """Peak memory of the first training step, the optimiser's state included.

    A later one would hide in what the process has kept of the one before.
    """
    return peak_of(calls(name, budget)["train_windows_per_second"])


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


def tables(measured: Results) -> str:
    """Each figure, and in brackets its ratio to that of PatchTST."""
    return of_metrics(measured, TITLES, "peak of a step, MB", PEER, "network")


PAGE = Page(project_root() / "apps" / "timeseries" / "README.md", "bench:timeseries", RESULTS, tables)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
