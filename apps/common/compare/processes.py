"""A few processes at a time."""

import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Job = TypeVar("Job")
Process = subprocess.Popen[str]

POLL_SECONDS = 0.02


def run_processes(
    jobs: Iterable[Job], start: Callable[[Job], Process], at_once: int
) -> Iterator[tuple[Job, int]]:
    """Start a process for every job, at most `at_once` together; yield (job, return code) as they end.

    Whatever still runs when the caller leaves early is killed.
    """
    waiting = iter(jobs)
    running: dict[Process, Job] = {}
    try:
        while True:
            while len(running) < at_once and (job := next(waiting, None)) is not None:
                running[start(job)] = job
            if not running:
                return
            for process in [process for process in running if process.poll() is not None]:
                yield running.pop(process), process.returncode
            time.sleep(POLL_SECONDS)
    finally:
        for process in running:
            process.kill()
            process.wait()
