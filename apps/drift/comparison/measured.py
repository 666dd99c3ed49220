"""A stream after it has run: its early rows choose, its later rows test."""

from collections.abc import Mapping
from math import isfinite

import numpy as np

from apps.common.compare import Cost, Fitted, Outcome, Value
from apps.drift.comparison.units import blocks
from apps.drift.data import Data
from apps.drift.evaluate import EARLY
from apps.drift.metrics import measure, recovery, right
from apps.drift.streams import RECIPES

BLOCK = 500
"""Rows of a unit of the bootstrap: near rows share their concept."""


class Measured(Fitted):
    """What was said of a stream, each row before its label was learned.

    Args:
        label, predicted: (N,).
        drifts: rows at which the concept changes.
        width: rows before and behind these in which concepts mix.
        speed: rows a second of one thread; None for rules that do nothing.
        cost: of the learner.
    """

    def __init__(
        self,
        label: np.ndarray,
        predicted: np.ndarray,
        drifts: list[int],
        width: int,
        speed: float | None = None,
        cost: Cost | None = None,
    ) -> None:
        early = int(EARLY * len(label))
        self.validation = 1 - float(right(label[:early], predicted[:early]).mean())
        self.label, self.predicted, self.early = label, predicted, early
        self.drifts = [row - early for row in drifts if row >= early]
        self.width, self.speed, self.cost = width, speed, cost or Cost()

    def test(self) -> Outcome:
        """Accuracy, the kappas, what a drift costs, and the speed, over the later rows."""
        found = {
            name: value
            for name, value in measure(self.label, self.predicted, self.early).items()
            if isfinite(value)
        }
        values = [Value("all", name, value, True) for name, value in found.items()]
        hits = right(self.label, self.predicted)[self.early :]
        if self.drifts:  # what is never back has cost all rows up to the next drift
            stretches = np.diff([*self.drifts, len(hits)])
            costs = zip(recovery(hits, self.drifts, self.width), stretches, strict=True)
            lost = [cost if isfinite(cost) else float(rows) for cost, rows in costs]
            values.append(Value("all", "recovery_rows", float(np.mean(lost)), False))
        if self.speed is not None:
            values.append(Value("all", "instances_per_second", self.speed, True))
        place, (means, sizes) = ("all", "accuracy"), blocks(hits, BLOCK)
        return Outcome(values, {place: means}, self.cost, {place: sizes})


def stream(name: str, rows: int, seed: int, cycles: Mapping[str, float] | None = None) -> Data:
    """A stream of the comparison: a whole public set, or so many rows of a generator, new ones for a seed."""
    data = Data(name=name, rows=rows if name in RECIPES else None, seed=seed, window=1, cycles=cycles)
    data.setup()
    return data
