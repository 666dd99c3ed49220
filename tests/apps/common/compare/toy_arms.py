"""Guesses that miss by an amount which depends on the setting, the seed and the unit."""

import os
import time
from pathlib import Path

import numpy as np

from apps.common.compare import Arm, Cost, Fitted, Outcome


def note(word, cell):
    """Write down what is asked for; stop there for good if the test wants it, from the n-th time on."""
    log = Path(os.environ["TOY_LOG"])
    with log.open("a") as file:
        file.write(f"{word} {cell} {os.getpid()}\n")
    held, _, times = os.environ.get("TOY_HOLD", "never:0").partition(":")
    if word == held and log.read_text().count(f"{word} ") > int(times):
        note("held", cell)
        time.sleep(600)


class Guess(Fitted):
    def __init__(self, cell, offset, seed, units):
        self.cell, self.units = cell, units
        self.offset = offset + 0.01 * seed
        self.validation = self.offset

    def test(self):
        note("test", self.cell)
        # on the test split small offsets are bad: a choice made here would be another one
        misses = 10 - self.offset + np.random.default_rng(0).normal(size=self.units)
        value = float(misses.mean())
        half = float(misses[: self.units // 2].mean())
        values = [
            ("all", "miss", value, False),
            ("all", "hits", -value, True),
            ("first", "miss", half, False),
        ]
        units = {("all", "miss"): misses, ("first", "miss"): misses[: self.units // 2]}
        return Outcome(values, units, Cost(active_params=10, total_params=40))


class Toy(Arm):
    def __init__(self, name, offset, trials, seeded, units, most_seeds=None, same=None):
        self.name, self.offset, self.units = name, offset, units
        self.trials, self.seeded, self.most_seeds, self.same = trials, seeded, most_seeds, same

    def same_as(self, data, trial):
        return (self.same, trial) if self.same else None

    def fit(self, data, trial, seed):
        cell = f"{data}/{self.name}/{trial.get('offset', 0)}/{seed}"
        note("fit", cell)
        print("threads:", os.environ["OMP_NUM_THREADS"])
        if os.environ.get("TOY_FAIL") == cell:
            raise RuntimeError("the toy broke")
        fitted = Guess(cell, self.offset + trial.get("offset", 0), seed, self.units)
        if os.environ.get("TOY_DIVERGE") == cell:
            fitted.validation = float("nan")
        return fitted


def arms(budget):
    trials = [{"offset": 2}, {"offset": 1}]
    units = budget["units"]
    return {
        "routed": Toy("routed", 0.0, trials, True, units),
        "dense_active": Toy("dense_active", -0.5, trials, True, units),
        "constant": Toy("constant", 0.2, [{}], False, units),
        "twin": Toy("twin", 0.0, trials, True, units, same="routed"),
        "slow": Toy("slow", 0.5, trials, True, units, most_seeds=2),
        "greedy": Toy("greedy", 0.2, [*trials, {"offset": 9}], True, units),
    }


def data_sha256(name):
    return {"coins": "c0" * 32, "dice": "d1" * 32}[name]
