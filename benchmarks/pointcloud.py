"""Speed and memory of what labels points in the comparison: `make bench APP=pointcloud`.

All run in one process on one thread, in turn and each round in another order, on one simulated scan; what
counts is CPU time, the least of all rounds. Peak memory is that of labelling the scan, each in a process of
its own. Networks are as they were drawn, which takes as long as when they were trained; trees are grown on
that scan.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jsonargparse import auto_cli

from apps.common.compare.places import config_file, results_folder
from apps.common.compare.profile import read_profile
from apps.common.compare.results import write_results
from apps.common.compare.schema import Results, Row
from apps.common.discovery import project_root
from apps.pointcloud.cloud import Cloud
from apps.pointcloud.comparison.networks import network
from apps.pointcloud.features import NAMES, scan_of
from apps.pointcloud.forest import Forest, geometry
from apps.pointcloud.simulate import KINDS, simulate
from apps.pointcloud.told import tell
from benchmarks.beside import of_metrics
from benchmarks.memory import in_own_process, peak_of
from benchmarks.results import Page, results, row
from benchmarks.timing import least

RESULTS = results_folder() / "labellers.json"
PEER = "geometric_forest"
ALIKE = ("random_router", "one_per_domain")
"""As fast as `routed` and `dense_active`."""
KIND = "streets"
TITLES = {"points_per_second": "points/s", "points_on_grid_per_second": "points/s, features known"}


def main(rounds: int = 5) -> None:
    """Measure; write docs/results/labellers.json and the table of apps/pointcloud/README.md.

    Args:
        rounds: How often the scan is labelled by each; the least time counts.
    """
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    profile = read_profile(config_file("pointcloud"), "full")
    names = [name for name in profile.arms if name not in ALIKE]
    cloud = simulate(KIND, 0)
    timed = {name: calls(labeller(name, profile.budget, cloud), cloud) for name in names}
    seconds = least(timed, rounds)
    rows = [each for name in names for each in _rows(name, profile.budget, len(cloud), seconds[name])]
    told = {"rounds": rounds, "points": len(cloud)}
    write_results(RESULTS, results("labellers", "make bench APP=pointcloud", rows, told))
    PAGE.refresh()


class Labeller(NamedTuple):
    """What gives points their classes: its features of a cloud, and a class for each point by these."""

    see: Callable[[Cloud], Any]
    tell: Callable[[Any], np.ndarray]


def labeller(name: str, budget: Mapping[str, Any], cloud: Cloud) -> Labeller:
    """An arm; trees are grown on the cloud."""
    classes = np.ones((1, len(KINDS[KIND].classes)), dtype=bool)
    if name == PEER:
        forest = Forest(**budget["trials"][PEER][0]).fit([scan_of(cloud)])

        def see(cloud: Cloud) -> tuple[np.ndarray, np.ndarray]:
            scan = scan_of(cloud, shaped=False)
            return geometry(scan), scan.of_point

        return Labeller(see, lambda seen: forest.predict(seen[0], classes[0])[seen[1]])
    torch.manual_seed(0)
    made = network(budget, name)
    made.build(len(NAMES), classes.shape[1], 1)
    return Labeller(scan_of, lambda scan: tell(made.eval(), [scan], classes, budget["points"]).labels[0])


def calls(label: Labeller, cloud: Cloud) -> dict[str, Callable[[], object]]:
    """What is timed, by metric: from points to classes, and from features of their cells to classes."""
    return {
        "points_per_second": lambda: label.tell(label.see(cloud)),
        "points_on_grid_per_second": partial(label.tell, label.see(cloud)),
    }


def megabytes(name: str, budget: Mapping[str, Any]) -> float:
    """Peak memory from points to classes."""
    cloud = simulate(KIND, 0)
    label = labeller(name, budget, cloud)
    return peak_of(lambda: label.tell(label.see(cloud)))


def _rows(name: str, budget: Mapping[str, Any], points: int, seconds: Mapping[str, float]) -> list[Row]:
    memory = in_own_process(megabytes, name, budget)
    return [
        row(KIND, name, metric, points / each, higher_is_better=True, peak_memory_mb=memory)
        for metric, each in seconds.items()
    ]


def tables(measured: Results) -> str:
    """Each figure, and in brackets its ratio to that of the forest."""
    return of_metrics(measured, TITLES, "peak, MB", PEER, "labelled by")


PAGE = Page(project_root() / "apps" / "pointcloud" / "README.md", "bench:pointcloud", RESULTS, tables)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
