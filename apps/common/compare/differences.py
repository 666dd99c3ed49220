"""Every arm against the routed one: the paired differences of a comparison."""

from collections.abc import Sequence

import numpy as np

from apps.common.compare.arms import Outcome, Place, Value
from apps.common.compare.intervals import Sample, paired_interval
from apps.common.compare.measurements import Measured
from apps.common.compare.schema import Interval
from apps.common.compare.trials import ROUTED
from apps.common.errors import UserError


def differences(measured: Sequence[Measured]) -> list[Interval]:
    """Return the interval of each arm on each (data, slice, metric) that it shares with the routed arm.

    An arm of fewer seeds, but more than one, is paired with as many of the routed arm, the first.

    Raises `UserError` where two arms cannot be paired: unequal test units, or no agreement on what is better;
    and where no arm shares a metric with the routed one.
    """
    outcomes: dict[str, dict[str, list[Outcome]]] = {}
    for arm, cell, outcome in measured:
        outcomes.setdefault(cell.data, {}).setdefault(arm, []).append(outcome)
    intervals = [
        _interval(data, arm, place, of_arm, arms[ROUTED])
        for data, arms in outcomes.items()
        for arm, of_arm in arms.items()
        if arm != ROUTED
        for place in _better(of_arm[0])
        if place in _better(arms[ROUTED][0])
    ]
    if not intervals:
        raise UserError(
            f"no arm shares a metric with {ROUTED}: mend the app's compare.py and use --fresh true."
        )
    return intervals


def _interval(data: str, arm: str, place: Place, of_arm: list[Outcome], routed: list[Outcome]) -> Interval:
    slice_, metric = place
    if 1 < len(of_arm) < len(routed):
        routed = routed[: len(of_arm)]
    try:
        if _better(of_arm[0])[place] != _better(routed[0])[place]:
            raise ValueError("they do not agree on whether higher is better")
        entropy = "/".join((data, slice_, metric, arm))
        bounds = paired_interval(_sample(of_arm, place), _sample(routed, place), entropy)
    except ValueError as error:
        raise UserError(
            f"{data}, {metric} of slice {slice_}: the arms {arm} and {ROUTED} cannot be paired, as {error}; "
            "mend the app's compare.py and use --fresh true."
        ) from error
    return Interval(
        data=data,
        slice=slice_,
        metric=metric,
        arm=arm,
        against=ROUTED,
        difference=bounds.difference,
        low=bounds.low,
        high=bounds.high,
        seeds=bounds.seeds,
        units=bounds.units,
        beyond=bounds.beyond,
    )


def _sample(outcomes: list[Outcome], place: Place) -> Sample:
    """Gather one metric of one arm over its seeds."""
    values = [{(v[0], v[1]): float(v[2]) for v in outcome.values} for outcome in outcomes]
    if not all(place in by_place for by_place in values):
        raise ValueError("the metric is missing for a seed")
    by_seed = np.array([by_place[place] for by_place in values])
    units = [outcome.units[place] for outcome in outcomes if place in outcome.units]
    if len(units) < len(outcomes):
        return Sample(by_seed)
    if len({len(row) for row in units}) > 1:
        raise ValueError("the number of test units differs from seed to seed")
    weights = [outcome.weights.get(place, np.ones(len(units[0]))) for outcome in outcomes]
    if not all(np.array_equal(weights[0], other) for other in weights):
        raise ValueError("the weights of the test units differ from seed to seed")
    return Sample(by_seed, np.stack(units), weights[0])


def _better(outcome: Outcome) -> dict[Place, bool]:
    return {(v.slice, v.metric): v.higher_is_better for v in map(Value._make, outcome.values)}
