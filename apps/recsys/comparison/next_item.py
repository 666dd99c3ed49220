"""What an arm of the next item is: its data, and what it achieved, with groups of users as test units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from apps.common.compare import Cost, Fitted, Outcome, Value
from apps.common.compare.arms import Place
from apps.common.compare.units import unit_means
from apps.recsys.data import Data
from apps.recsys.metrics import coverage, hits, ndcg
from apps.recsys.ranked import TOP, Ranked, fame_of, hits_of, parts, ranked
from apps.recsys.sequences import Walk

UNITS = 100
"""Test units: as many groups of users."""


def data_for(name: str, budget: Mapping[str, Any], seed: int = 0) -> Data:
    """The module of a set of the comparison, read; every seed has the same windows in another order."""
    data = Data(
        name=name,
        protocol="next_item",
        history=budget["history"],
        batch_size=budget["batch_size"],
        batch_seed=seed,
        **budget.get("data", {}),
    )
    data.setup()
    return data


class Told(Fitted):
    """What gives scores for windows."""

    def __init__(self, ask: Callable[[Walk], Tensor], data: Data, cost: Cost) -> None:
        self.ask, self.data, self.cost = ask, data, cost
        self.fame = fame_of(data.walks("train"), len(data.catalogue))
        self.validation = 1 - float(ndcg(ranked(ask, data.walks("validation"), self.fame).rank, TOP).mean())

    def test(self) -> Outcome:
        """Open the test items."""
        walks = self.data.walks("test")
        return outcome(ranked(self.ask, walks, self.fame), self.cost)


def outcome(found: Ranked, cost: Cost) -> Outcome:
    """NDCG and hits at ten, the reciprocal rank and coverage; of parts of the users NDCG and hits.

    Of users who liked the item that came, hits are counted apart, and less those of users who did not.
    """
    values: list[Value] = []
    units: dict[Place, np.ndarray] = {}
    weights: dict[Place, np.ndarray] = {}
    measures = {f"ndcg_{TOP}": ndcg, f"hr_{TOP}": hits}
    for name, some in parts(found):
        for metric, measure in measures.items():
            each = measure(some.rank, TOP)
            values.append(Value(name, metric, float(each.mean()), True))
            means, rows = unit_means(each, some.user % UNITS, UNITS)
            units[name, metric], weights[name, metric] = means[rows > 0], rows[rows > 0]
    if all((found.liked == label).any() for label in (0, 1)):
        liked, not_liked = (hits_of(found, label) for label in (1, 0))
        values.append(Value("all", f"hr_{TOP}_liked", liked, True))
        values.append(Value("all", f"hr_{TOP}_liked_less_not", liked - not_liked, True))
    values.append(Value("all", "mrr", float((1 / found.rank).mean()), True))
    values.append(Value("all", f"coverage_{TOP}", coverage(found.top, found.items), True))
    return Outcome(values, units, cost, weights)
