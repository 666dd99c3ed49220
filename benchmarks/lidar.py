"""Speed and memory of the estimators of the comparison: `make bench APP=lidar`.

All run in one process on one thread, in turn and each round in another order, on the same histograms; what
counts is CPU time, the least of all rounds. Peak memory is that of an estimate of all of them, each in a
process of its own. Networks are as they were drawn, which takes as long as when they were trained.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import nn

from apps.common.compare.places import config_file, results_folder
from apps.common.compare.profile import read_profile
from apps.common.compare.results import write_results
from apps.common.compare.schema import Results, Row
from apps.common.discovery import project_root
from apps.lidar.bound import Prior
from apps.lidar.compare import FittedRule, Network, arms, data_for
from apps.lidar.data import Data
from apps.lidar.estimates import estimates
from apps.lidar.misfit import chance
from benchmarks.beside import of_metrics
from benchmarks.memory import in_own_process, peak_of
from benchmarks.results import Page, results, row
from benchmarks.timing import least

RESULTS = results_folder() / "estimators.json"
PEER = "cnn"
TESTED = "routed, and whether it fits"
"""As `predict` does it, with the test for a poor fit."""
ALIKE = ("staged", "random_router", "routed_on_diffusion")
"""The network of `routed`, trained in another manner."""
SET = "diffusion"
MANY = 512
METRICS = {"histograms_per_second": True, "latency_ms": False}
"""Whether higher is better."""
TITLES = {"histograms_per_second": "histograms/s", "latency_ms": "a single one, ms"}


def main(rounds: int = 5) -> None:
    """Measure; write docs/results/estimators.json and the table of apps/lidar/README.md.

    Args:
        rounds: How often each estimator is asked; the least time counts.
    """
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    profile = read_profile(config_file("lidar"), "full")
    names = [TESTED, *(name for name in profile.arms if name not in ALIKE)]
    seconds = least({name: calls(name, profile.budget) for name in names}, rounds)
    rows = [each for name in names for each in _rows(name, profile.budget, seconds[name])]
    told = {"rounds": rounds, "histograms": MANY}
    write_results(RESULTS, results("estimators", "make bench APP=lidar", rows, told))
    PAGE.refresh()


def calls(name: str, budget: Mapping[str, Any]) -> dict[str, Callable[[], object]]:
    """What is timed of one estimator, by metric: many histograms, and one."""
    many, one = (drawn(number, budget) for number in (MANY, 1))
    return {"histograms_per_second": call(name, budget, many), "latency_ms": call(name, budget, one)}


def drawn(number: int, budget: Mapping[str, Any]) -> Data:
    """That many test histograms, whose light has been computed."""
    data = data_for(SET, {**budget, "scenes": 1, "held_out": number})
    data.part("test")
    return data


def call(name: str, budget: Mapping[str, Any], data: Data) -> Callable[[], object]:
    """An estimate of all test histograms."""
    arm = arms(budget)["routed" if name == TESTED else name]
    if not isinstance(arm, Network):
        return partial(FittedRule(name, data).ask, "test")
    torch.manual_seed(0)
    network = arm.make()
    return (
        partial(tested, network, data) if name == TESTED else partial(estimates, network, data.part("test"))
    )


@torch.no_grad()
def tested(network: nn.Module, data: Data) -> torch.Tensor:
    """Estimates, and how probable it is that histograms near them fit no better."""
    histograms = data.part("test")
    assert histograms.counts is not None
    prior = Prior.of(histograms.truth, histograms.tissue, data.ranges)
    value = torch.from_numpy(estimates(network, histograms).value)
    return chance(histograms.counts, value, prior, data.rig, data.known_tissue)


def megabytes(name: str, budget: Mapping[str, Any]) -> float:
    """Peak memory of an estimate of many histograms, after one of a single one."""
    of_many, of_one = calls(name, budget).values()
    of_one()
    return peak_of(of_many)


def _rows(name: str, budget: Mapping[str, Any], seconds: Mapping[str, float]) -> list[Row]:
    values = {
        "histograms_per_second": MANY / seconds["histograms_per_second"],
        "latency_ms": 1000 * seconds["latency_ms"],
    }
    memory = in_own_process(megabytes, name, budget)
    return [
        row(SET, name, metric, value, higher_is_better=METRICS[metric], peak_memory_mb=memory)
        for metric, value in values.items()
    ]


def tables(measured: Results) -> str:
    """Each figure, and in brackets its ratio to that of the convolutional network."""
    return of_metrics(measured, TITLES, "peak, MB", PEER, "estimator")


PAGE = Page(project_root() / "apps" / "lidar" / "README.md", "bench:lidar", RESULTS, tables)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
