"""When a mixture should grow: when it errs more than it did, or treats groups less alike."""

from collections.abc import Iterator

import torch
from river.drift import ADWIN
from torch import Tensor

from apps.drift.fair.fairness import Measure
from apps.drift.fair.objective import Objective

FAR = 5.0
"""Deviations at which a distance counts in full; those beyond count no more."""

Key = tuple[int, int, int]
"""Two groups, the smaller number first, and the kind of rows that are compared."""


STEPS, RATE = 100, 0.05
"""Steps of Adam, and their size, by which a newcomer is fitted."""


class Watch:
    """Watches a stream by ADWIN (Bifet and Gavalda 2007): one on the errors, one on each gap of two groups.

    ADWIN takes what it is shown for independent, and the gap over the last rows, moved on by a row at a time,
    is not. So each row is paired with the newest row of the other group that has no partner yet, and ADWIN is
    shown the difference of what the two got: its mean is the gap, and its window as long as the gap has
    stayed the same. Of more than two groups each pair is watched. Equalised odds pairs rows of one label,
    burden those who did not get the wanted outcome.

    Args:
        measure: of fairness.
        confidence: of ADWIN; lower is surer.

    Attributes:
        waiting: the newest row by kind and group: what it got, and the groups that it has been paired with.
    """

    def __init__(self, measure: Measure, confidence: float = 0.002) -> None:
        self.measure, self.confidence = measure, confidence
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.error = ADWIN(delta=self.confidence)
        self.gaps: dict[Key, ADWIN] = {}
        self.waiting: dict[tuple[int, int], tuple[float, list[int]]] = {}

    def look(self, label: Tensor, predicted: Tensor, group: Tensor, distance: Tensor) -> str | None:
        """Look at rows (B,) in their order; return "errors" or "fairness" if these have become worse."""
        worse = None
        rows = (part.tolist() for part in (label, predicted, group, distance))
        for y, told, own, far in zip(*rows, strict=True):
            if self._rises(self.error, float(told != y), middle=0.0):
                worse = worse or "errors"
            for key, difference in self._pairs(own, *self._value(y, told, far)):
                detector = self.gaps.setdefault(key, ADWIN(delta=self.confidence))
                if self._rises(detector, (1 + difference) / 2, middle=0.5):
                    worse = worse or "fairness"
        return worse

    def _value(self, label: int, predicted: int, distance: float) -> tuple[float, int]:
        """What a row got, from 0 to 1, and the kind of rows that it is compared with, -1 for none."""
        if self.measure == "burden":
            return min(distance / FAR, 1.0), 0 if predicted == 0 else -1
        return float(predicted), label if self.measure == "odds" else 0

    def _pairs(self, group: int, value: float, kind: int) -> Iterator[tuple[Key, float]]:
        """The pairs that a row completes, with the first group's value less the second's."""
        if group < 0 or kind < 0:
            return
        mine: list[int] = []
        for (its_kind, other), (its_value, met) in self.waiting.items():
            if its_kind == kind and other != group and group not in met:
                met.append(group)
                mine.append(other)
                first, second = (value, its_value) if group < other else (its_value, value)
                yield (min(group, other), max(group, other), kind), first - second
        self.waiting[kind, group] = (value, mine)

    @staticmethod
    def _rises(detector: ADWIN, value: float, middle: float) -> bool:
        """Show a detector a value; tell whether the mean has changed and moved away from the middle."""
        before = detector.estimation
        detector.update(value)
        return bool(detector.drift_detected) and abs(detector.estimation - middle) > abs(before - middle)


def newcomer(
    objective: Objective, weight: Tensor, bias: Tensor, x: Tensor, label: Tensor, group: Tensor
) -> tuple[Tensor, Tensor]:
    """An expert for some rows: the one that does best on them alone, and then fitted to them by Adam.

    Args:
        objective: by which it is chosen and fitted.
        weight, bias: (E, D) and (E,), of the experts that are there.
        x, label, group: (N, D), (N,) and (N,), the rows.

    Returns:
        its weight (D,) and bias ().
    """
    experts = list(zip(weight.detach(), bias.detach(), strict=True))
    w, b = min(experts, key=lambda expert: float(objective.alone(expert[0], expert[1], x, label, group)))
    w, b = w.clone().requires_grad_(), b.clone().requires_grad_()
    optimizer = torch.optim.Adam([w, b], lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        objective.alone(w, b, x, label, group).backward()
        optimizer.step()
    return w.detach(), b.detach()
