"""Speed and memory of the learners of the comparison of streams: `make bench APP=drift`.

All run in one process on one thread, in turn and each round in another order, each over the same rows from
its beginning; what counts is CPU time, the least of all rounds. Memory is what a learner is once it has seen
them, written out as bytes.
"""

import logging
import pickle
from collections.abc import Callable
from typing import Any

import torch
from jsonargparse import auto_cli

from apps.common.compare.places import config_file, results_folder
from apps.common.compare.profile import read_profile
from apps.common.compare.results import write_results
from apps.common.compare.schema import Results
from apps.common.discovery import project_root
from apps.drift.compare import arms
from apps.drift.comparison.learners import Network, River
from apps.drift.comparison.measured import stream
from benchmarks.beside import beside, origin
from benchmarks.results import Page, results, row
from benchmarks.timing import least

RESULTS = results_folder() / "streams.json"
PEER = "arf"
STREAMS = ("sea_a", "led_a")
"""Three numbers and two classes, and 24 features and ten classes."""
SPEED = "instances_per_second"


def main(rounds: int = 3, rows: int = 5000) -> None:
    """Measure; write docs/results/streams.json and the table of apps/drift/README.md.

    Args:
        rounds: How often each learner goes over a stream; the least time counts.
        rows: Length of a stream.
    """
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    profile = read_profile(config_file("drift"), "full")
    every = arms(profile.budget)
    learners = {name: arm for name in profile.arms if isinstance(arm := every[name], Network | River)}
    timed = {name: {data: run_of(arm, data, rows) for data in STREAMS} for name, arm in learners.items()}
    by_row = {data: run_of(learners["routed"], data, rows, chunk=1) for data in STREAMS}
    timed |= {"routed, row by row": by_row}
    seconds = least(timed, rounds)
    found = [
        row(
            data,
            name,
            SPEED,
            rows / seconds[name][data],
            higher_is_better=True,
            peak_memory_mb=megabytes(timed[name][data]()),
        )
        for name in timed
        for data in STREAMS
    ]
    told = {"rounds": rounds, "rows": rows}
    write_results(RESULTS, results("streams", "make bench APP=drift", found, told))
    PAGE.refresh()


def run_of(arm: Network | River, name: str, rows: int, **options: Any) -> Callable[[], Any]:
    """A call that goes over a stream with a new learner, and returns it.

    Args:
        arm: makes the learner.
        name: of the stream.
        rows: of it.
        options: of the arm that are to be others.
    """
    data = stream(name, rows, seed=0)
    table, y, _ = data.read()
    if isinstance(arm, River):
        return lambda: arm.run(table, y.tolist(), arm.trials[0], 0)[0]

    def run() -> Any:
        data.x = data.encoded(table)
        return arm.run(data, trial, 0)[0]

    trial = {**arm.trials[0], **options}
    return run


def megabytes(learner: object) -> float:
    """What a learner is, written out."""
    return len(pickle.dumps(learner)) / 2**20


def tables(measured: Results) -> str:
    """Rows a second and megabytes, and in brackets their ratios to those of the adaptive random forest."""
    figures: dict[str, dict[str, float | None]] = {}
    for each in measured["rows"]:
        cells = figures.setdefault(each["arm"], {})
        cells[f"{each['data']}, rows/s"] = each["value"]
        cells[f"{each['data']}, MB"] = each["peak_memory_mb"]
    return f"{beside(figures, PEER, 'learner')}\n\n{origin(measured, PEER)}"


PAGE = Page(project_root() / "apps" / "drift" / "README.md", "bench:drift", RESULTS, tables)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
