"""A few processes at a time, each cell's memory its own."""

import subprocess
import sys

from apps.common.compare.executor import Executor
from apps.common.compare.places import Places
from apps.common.compare.plan import read_plan
from apps.common.compare.processes import run_processes


def _python(code: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-S", "-c", code], text=True)


def test_every_job_ends_with_its_exit_code():
    ended = dict(run_processes(range(5), lambda n: _python(f"raise SystemExit({n})"), at_once=2))
    assert ended == {n: n for n in range(5)}


def test_no_more_run_at_once_than_allowed():
    started = []

    def start(number: int) -> "subprocess.Popen[str]":
        assert sum(process.poll() is None for process in started) < 2
        started.append(_python("pass"))
        return started[-1]

    assert len(list(run_processes(range(6), start, at_once=2))) == 6


def test_leaving_early_kills_what_still_runs():
    started = [_python("pass"), _python("import time; time.sleep(600)")]
    waiting = iter(started)
    ended = run_processes(range(2), lambda _: next(waiting), at_once=2)
    assert next(ended) == (0, 0)
    ended.close()
    assert started[1].returncode == -9


def test_a_cell_runs_on_one_thread_and_does_not_inherit_the_peak_memory_of_its_parent(toy):
    ballast = bytearray(400 * 2**20)
    places = Places.of("toy")
    cell = read_plan("toy", "quick").cell("coins", "constant", {}, 0, final=True)
    finished = Executor(places, "code").run("tests", [cell])[cell.key]
    assert finished.outcome is not None
    assert 5 < finished.outcome.cost.peak_memory_mb < len(ballast) / 2**20
    assert (places.logs / f"{cell.key}.log").read_text() == "threads: 1\n"
