"""The arms of the comparison: the routed forecaster, its controls, and what the field would pick instead."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from apps.common.compare import Arm, Cost, Fitted, Trial
from apps.timeseries.baselines import Ridge, repeat_last, seasonal_naive
from apps.timeseries.comparison.budgets import SIMULATED, budget_for, module_for
from apps.timeseries.comparison.m4 import BENCHMARKS, Benchmark, MeasuredM4
from apps.timeseries.comparison.measured import Measured
from apps.timeseries.comparison.rolling import Rolling
from apps.timeseries.comparison.trained import ZeroShot, trained
from apps.timeseries.data import Data
from apps.timeseries.simulate import simulate
from apps.timeseries.windows import Batch

Rule = Callable[[Tensor, Tensor, int], Tensor]
"""context (B, L), context_mask (B, L), horizon -> (B, H)."""


def arms(budget: Mapping[str, Any]) -> dict[str, Arm]:
    """Every arm, for one budget: context, horizons, training (see configs/timeseries/compare.yaml)."""
    if budget.get("protocol") == "m4":
        return trained(budget, MeasuredM4) | {name: Benchmark(name) for name in BENCHMARKS}
    return {
        **trained(budget),
        "zero_shot": ZeroShot(budget),
        "ridge": Linear(budget),
        "seasonal_naive": Untrained(budget, lambda data: partial(seasonal_naive, season=data.season)),
        "repeat_last": Untrained(budget, lambda data: repeat_last),
    }


def data_sha256(name: str) -> str | None:
    """The hash of the simulated series; other names are the catalogue's."""
    if name != SIMULATED:
        return None
    return hashlib.sha256(simulate().values.tobytes()).hexdigest()


class Linear(Rolling):
    """The closed-form ridge on last-value-normalised windows: a map for each horizon.

    A trial gives the powers of the deviation by which windows may count, and of how many maps the ridge may
    be a mean; these and the penalty are chosen for each horizon on its validation windows.
    """

    seeded = False

    def __init__(self, budget: Mapping[str, Any]) -> None:
        self.budget, self.trials = budget, budget["trials"]["ridge"]

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Solve for each horizon."""
        budget = budget_for(data, self.budget)
        module = module_for(data, budget, seed)
        parts = module.windows("train"), module.windows("validation")
        maps = Ridge.fit_each(*parts, budget["horizons"], **trial)
        score = float(np.mean([min(ridge.means) for ridge in maps.values()]))
        size = sum(ridge.weight.numel() for ridge in maps.values())
        cost = Cost(active_params=size, total_params=size, active_flops=2 * size)
        return Measured(
            of_batches(lambda x, mask, horizon: maps[horizon](x, mask)), data, budget, score, cost
        )


class Untrained(Arm):
    """A rule without parameters."""

    seeded = False

    def __init__(self, budget: Mapping[str, Any], rule: Callable[[Data], Rule]) -> None:
        self.budget, self.rule = budget, rule

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Nothing to fit."""
        budget = budget_for(data, self.budget)
        cost = Cost(active_params=0, total_params=0, active_flops=0)
        rule = of_batches(self.rule(module_for(data, budget, seed)))
        return Measured(rule, data, budget, float("nan"), cost)


def of_batches(rule: Rule) -> Callable[[Batch, int], Tensor]:
    """The same rule, of batches."""
    return lambda batch, horizon: rule(batch["context"], batch["context_mask"], horizon)
