"""A comparison that is killed goes on, and ends where the uninterrupted one does."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from apps.common.compare import compare
from apps.common.compare.results import read_results

pytestmark = pytest.mark.slow

PROGRAM = "from apps.common.compare import compare; compare('toy')"
UNMEASURED = ("train_seconds", "peak_memory_mb")
SEEDS = {"routed": 2, "dense_active": 2, "constant": 1}


def test_a_killed_comparison_goes_on_and_ends_with_the_same_figures(toy, uninterrupted, monkeypatch):
    monkeypatch.setenv("TOY_HOLD", "fit:6")  # four trials and two finals end, the next two hold
    _kill_where_it_holds(toy, workers=2)
    finished, noted = Counter(toy.noted("fit")[:6]), len(toy.noted("fit"))
    assert len(list((toy.home / "cells").glob("*.json"))) == 6
    assert not toy.results.exists()
    _finish(monkeypatch)
    assert Counter(toy.noted("fit")[noted:]) == Counter(uninterrupted.noted("fit")) - finished
    assert _figures(toy) == _figures(uninterrupted)
    assert _openings(toy) == SEEDS


def test_a_test_split_that_was_open_at_the_kill_is_counted_once_more(toy, uninterrupted, monkeypatch):
    monkeypatch.setenv("TOY_HOLD", "test:4")
    _kill_where_it_holds(toy, workers=1)
    _finish(monkeypatch)
    arm = toy.noted("held")[0].split("/")[1]
    assert _openings(toy) == {**SEEDS, arm: SEEDS[arm] + 1}
    assert _figures(toy) == _figures(uninterrupted)


def _kill_where_it_holds(toy, workers: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.DEVNULL)
    _wait(lambda: len(toy.noted("held")) == workers)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = [number for word, _, number in toy.notes if word == "held"]
    _wait(lambda: not any(map(_lives, held)))


def _finish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_HOLD")
    compare("toy")


def _wait(reached: Callable[[], bool]) -> None:
    for _ in range(1200):
        if reached():
            return
        time.sleep(0.1)
    pytest.fail("what was waited for did not come")


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{number}/status")  # a process that nobody has waited for yet is a zombie there
    return not (status.exists() and "State:\tZ" in status.read_text())


def _figures(toy) -> dict:
    results = read_results(toy.results)
    rows = [{key: value for key, value in row.items() if key not in UNMEASURED} for row in results["rows"]]
    return {"rows": rows, "intervals": results["intervals"], "choices": results["choices"]}


def _openings(toy) -> dict[str, int]:
    return {entry["arm"]: entry["times"] for entry in read_results(toy.results)["tested"]}
