"""How fair an arm is at a stated accuracy: judged on the early rows of a stream, tested on the later ones."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from apps.common.compare import Cost, Fitted, Outcome, Value
from apps.drift.comparison.units import Rated, balanced_accuracy, blocks, unfairness
from apps.drift.data import Data
from apps.drift.evaluate import EARLY
from apps.drift.fair.fairness import Measure, gaps
from apps.drift.metrics import right

BELOW = 100.0
"""Added to the score of what is not accurate enough: more than any gap."""

Table = dict[str, np.ndarray]
"""label, predicted and group (N,), and distance (N,) from the boundary where it is known."""


class Prequential(ABC):
    """Goes over a stream once, and predicts each row before it learns it.

    Args:
        data: the stream.

    Attributes:
        at: the row that comes next.
    """

    def __init__(self, data: Data) -> None:
        self.data, self.at = data, 0

    @abstractmethod
    def step(self, end: int) -> Table:
        """Predict some of the next rows, at most up to `end`, and learn: predicted (n,), perhaps distance."""

    def run(self, end: int) -> Table:
        """Go on to the row `end`, and tell what was said on the way."""
        first, parts = self.at, []
        while self.at < end:
            parts.append(self.step(end))
            self.at += len(parts[-1]["predicted"])
        said = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        label, group = (of_row[first:end].numpy() for of_row in (self.data.y, self.data.group))
        return {"label": label, "group": group, **said}

    def cost(self) -> Cost:
        """What the learner costs as it stands."""
        return Cost()


class MeasuredFairness(Fitted):
    """A learner that has run over the early rows; the later ones are opened by `test` alone.

    Of the early rows the first `block` do not count, as nothing is known yet. The score is the gap of the
    others, if their accuracy is at most `slack` below the reference. What is less accurate comes after
    everything that is not, the most accurate first.

    Args:
        learner: before its first row.
        measure: of fairness, of the gap that is the score.
        reference: an accuracy on the same rows.
        budget: gives block and slack.
    """

    def __init__(
        self, learner: Prequential, measure: Measure, reference: float, budget: Mapping[str, Any]
    ) -> None:
        self.learner, self.measure, self.start = learner, measure, time.perf_counter()
        table = early_rows(learner, budget["block"])
        accuracy = accuracy_of(table)
        near = accuracy >= reference - budget["slack"]
        self.validation = gaps(table)[measure] if near else BELOW - accuracy

    def test(self) -> Outcome:
        """The gap by each measure, accuracy and balanced accuracy of the later rows."""
        table = self.learner.run(len(self.learner.data.y))
        seconds = round(time.perf_counter() - self.start, 3)
        label, predicted = table["label"], table["predicted"]
        hits = right(label, predicted)
        gap = unfairness(table)
        found: dict[str, Rated] = {self.measure: gap[self.measure], **gap}
        found |= {"accuracy": (float(hits.mean()), hits)}
        found |= {"balanced_accuracy": balanced_accuracy(label, predicted)}
        places = {name: ("all", name) for name in found}
        values = [Value(*places[name], value, name not in gap) for name, (value, _) in found.items()]
        units = {places[name]: blocks(of_row) for name, (_, of_row) in found.items()}
        cost = self.learner.cost()
        known = Cost(cost.active_params, cost.total_params, cost.active_flops, seconds)
        means, sizes = ({place: both[i] for place, both in units.items()} for i in (0, 1))
        return Outcome(values, means, known, sizes)


def early_rows(learner: Prequential, block: int) -> Table:
    """What a learner says of the early rows but the first `block`."""
    table = learner.run(int(EARLY * len(learner.data.y)))
    return {name: column[block:] for name, column in table.items()}


def accuracy_of(table: Table) -> float:
    """The share of rows that is predicted right."""
    return float(right(table["label"], table["predicted"]).mean())


def stream(name: str, rows: int) -> Data:
    """The first rows of a public or generated stream, in its order."""
    data = Data(name=name, rows=rows, window=1)
    data.setup()
    return data
