"""Finishes cells: from the cache, or each in a fresh process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from apps.common.compare.cache import Cache
from apps.common.compare.cells import Cell, Finished
from apps.common.compare.places import Places
from apps.common.compare.processes import Process, run_processes

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass
class Executor:
    """Runs the cells of one app, `jobs` at a time, one thread each.

    With `fresh` every cell is run, whatever the cache or the `archives` hold. `failures` names the cells that
    failed, and why.
    """

    places: Places
    code: str
    jobs: int = 2
    fresh: bool = False
    archives: Sequence[Path] = ()
    failures: list[str] = field(default_factory=list)

    def run(self, title: str, cells: Sequence[Cell]) -> dict[str, Finished]:
        """Return the finished cells by key. One that fails is reported and missing; the others go on."""
        cache = Cache(self.places.cells, () if self.fresh else self.archives)
        cells = list({cell.key: cell for cell in cells}.values())  # one may serve two arms
        found = {} if self.fresh else {cell.key: kept for cell in cells if (kept := cache.load(cell))}
        missing = [cell for cell in cells if cell.key not in found]
        with _progress() as progress:
            bar = progress.add_task(title, total=len(cells), completed=len(found))
            for cell, code in run_processes(missing, self._start, self.jobs):
                if code == 0 and (finished := cache.load(cell)):
                    found[cell.key] = finished
                line = self._report(cell, found.get(cell.key), code)
                progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
                progress.advance(bar)
        return found

    def _start(self, cell: Cell) -> Process:
        order = {"cell": asdict(cell), "code": self.code}
        order |= {"cells": str(self.places.cells), "ledger": str(self.places.ledger)}
        log = self._log(cell)
        log.parent.mkdir(parents=True, exist_ok=True)
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "apps.common.compare.worker"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths},
            )
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which its exit code will tell
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()  # and left open: the process ends when this one does
        return process

    def _report(self, cell: Cell, finished: Finished | None, code: int) -> str:
        """Return the log line of a cell that has just ended."""
        if finished is not None:
            score = "not finite" if finished.validation is None else f"{finished.validation:.5g}"
            return f"{cell.label}: validation {score}, {finished.cpu_seconds:.1f} CPU seconds"
        printed = self._log(cell).read_text(encoding="utf-8", errors="replace").split("\n")
        reason = next((line for line in reversed(printed) if line.strip()), "it printed nothing")
        self.failures.append(f"{cell.label}: {reason} (exit code {code}; {self._log(cell)})")
        return f"FAILED {self.failures[-1]}"

    def _log(self, cell: Cell) -> Path:
        return self.places.logs / f"{cell.key}.log"


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns)
