"""What an app hands to a comparison: arms that are fitted, judged on validation, and tested once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Trial = dict[str, Any]
Place = tuple[str, str]
"""Where a measurement stands: (slice, metric)."""


class Value(NamedTuple):
    """One measurement on the test split; `slice` names a part of it, `all` the whole."""

    slice: str
    metric: str
    value: float
    higher_is_better: bool


@dataclass(frozen=True)
class Cost:
    """What a fitted arm costs; None where a figure has no meaning for it.

    `active_flops` counts the forward pass of one item. `train_seconds` and `peak_memory_mb` are measured
    by the comparison (wall time of `fit`, peak resident memory of the cell's process) where left None.
    """

    active_params: int | None = None
    total_params: int | None = None
    active_flops: float | None = None
    train_seconds: float | None = None
    peak_memory_mb: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What an arm achieved on the test split.

    `units` gives, for a (slice, metric), one number for each test unit (block of windows, day, user, clip),
    in the same order for every arm, whose mean is the value; where units weigh unequally `weights` gives
    their weights and the weighted mean is the value. A metric without units has an interval over seeds alone.
    """

    values: Sequence[Value | tuple[str, str, float, bool]]
    units: Mapping[Place, np.ndarray] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    weights: Mapping[Place, np.ndarray] = field(default_factory=dict)


class Fitted(ABC):
    """An arm after training. `validation` is its score on the validation split, lower is better."""

    validation: float

    @abstractmethod
    def test(self) -> Outcome:
        """Open the test split and measure. Nothing else may open it; called once for each final cell."""


class Arm(ABC):
    """One way to solve the task: the routed model, one of its controls, a variant or a peer.

    `trials` are the settings to choose from on validation; `[{}]` means that there is nothing to choose.
    `seeded` is False for an arm without randomness, which then runs once; `most_seeds` is how many a slow arm
    runs at most. `settings` is all else that makes the arm what it is (numbers, strings, lists and dicts): a
    finished cell is known by it.
    """

    trials: Sequence[Trial] = ({},)
    seeded: bool = True
    most_seeds: int | None = None
    settings: Mapping[str, Any] = {}

    def same_as(self, data: str, trial: Trial) -> tuple[str, Trial] | None:
        """The arm of the app, and its trial, that are this one under another name on a data set: they are
        fitted once for both. None where there is no such arm."""
        return None

    @abstractmethod
    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Train on the data set named `data`: a function of (data, trial, seed) alone."""

    def score(self, data: str, trial: Trial, seed: int) -> float:
        """The validation score of a trial, by which settings are chosen: that of one fit, or of several."""
        return self.fit(data, trial, seed).validation


def check_outcome(outcome: Outcome) -> None:
    """Raise ValueError where an outcome contradicts itself: a value that is not finite, is given twice,
    or is not the mean of its units."""
    values = [Value(*value) for value in outcome.values]
    places = [(value.slice, value.metric) for value in values]
    if not values or len(set(places)) < len(places):
        raise ValueError("an outcome needs at least one value, and one value for each slice and metric")
    if unknown := set(outcome.units) - set(places) | set(outcome.weights) - set(outcome.units):
        raise ValueError(f"units or weights without a value: {sorted(unknown)}")
    for value in values:
        if not np.isfinite(value.value):
            raise ValueError(f"{value.metric} of slice {value.slice} is {value.value}")
        if (value.slice, value.metric) in outcome.units:
            _check_units(value, outcome)


def _check_units(value: Value, outcome: Outcome) -> None:
    place = (value.slice, value.metric)
    units = np.asarray(outcome.units[place], dtype=np.float64)
    weights = np.asarray(outcome.weights.get(place, np.ones(len(units))), dtype=np.float64)
    if units.ndim != 1 or units.shape != weights.shape or not weights.sum() > 0 or weights.min() < 0:
        raise ValueError(f"units of {place} must be one row of numbers, with as many weights of at least 0")
    mean = float(np.average(units, weights=weights))
    if not np.isclose(mean, value.value, rtol=1e-4, atol=1e-9):
        raise ValueError(
            f"the units of {place} have the mean {mean:.6g}, the value is {value.value:.6g}: "
            "give weights where units are of unequal size"
        )
