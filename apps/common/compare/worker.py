"""The process of one cell: `python -m apps.common.compare.worker`, its order as one JSON line on stdin."""

import json
import os
import resource
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from apps.common.compare.arms import Cost, check_outcome
from apps.common.compare.cache import Cache
from apps.common.compare.cells import Cell, Finished
from apps.common.compare.ledger import Ledger
from apps.common.compare.plan import load_arms


def run_cell(cell: Cell, ledger: Ledger, code: str) -> Finished:
    """Score a trial; or fit a final cell, which then opens the test split, once, when the ledger noted it."""
    arm = load_arms(cell.app, cell.budget)[cell.arm]
    if not cell.final:
        return Finished(_known(arm.score(cell.data, cell.trial, cell.seed)), None, code, _cpu_seconds())
    start = time.perf_counter()
    fitted = arm.fit(cell.data, cell.trial, cell.seed)
    seconds = time.perf_counter() - start
    ledger.open_test(cell)
    outcome = fitted.test()
    check_outcome(outcome)
    outcome = replace(outcome, cost=_measured(outcome.cost, seconds))
    return Finished(_known(fitted.validation), outcome, code, _cpu_seconds())


def _known(validation: float) -> float | None:
    return float(validation) if np.isfinite(validation) else None


def _measured(cost: Cost, seconds: float) -> Cost:
    if cost.train_seconds is None:
        cost = replace(cost, train_seconds=round(seconds, 3))
    if cost.peak_memory_mb is None:
        cost = replace(cost, peak_memory_mb=round(_peak_memory_mb(), 1))
    return cost


def _peak_memory_mb() -> float:
    """Return the peak resident memory of this process.

    Linux carries the parent's peak over into `getrusage` of a started program, so the kernel's own mark of
    the present program is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        marks = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")]
        if marks:
            return int(marks[0].split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 3)


def _end_with_parent() -> None:
    """Leave when the parent does, however it ends: it holds the other side of stdin open."""
    while os.read(0, 1024):
        pass
    os._exit(1)


def main() -> None:
    """Run the cell that the order names and store it."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cell = Cell(**order["cell"])
    finished = run_cell(cell, Ledger(Path(order["ledger"])), order["code"])
    Cache(Path(order["cells"])).store(cell, finished)


if __name__ == "__main__":
    main()
