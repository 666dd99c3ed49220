"""Scoring settings by more than one stretch of validation rows."""

from collections.abc import Mapping
from copy import copy
from statistics import fmean
from typing import Any

from apps.common.compare import Arm, Trial


class Rolling(Arm):
    """An arm whose trials are scored by as many stretches of time as the budget says for a set, in `folds`.

    The first stretch is the validation part; each other one is as long and lies before it, and its fit trains
    on what comes before that. A validation part that holds one window of the longest horizon, but for
    overlap, is one observation, and a choice by it is a choice by chance. Source: rolling-origin evaluation
    (Tashman 2000, Out-of-sample tests of forecasting accuracy).
    """

    budget: Mapping[str, Any]

    def score(self, data: str, trial: Trial, seed: int) -> float:
        """Mean validation error over the stretches."""
        scores = []
        for earlier in range(self.budget.get("folds", {}).get(data, 1)):
            arm = copy(self)
            arm.budget = {**self.budget, "earlier": earlier}
            scores.append(arm.fit(data, trial, seed).validation)
        return fmean(scores)
