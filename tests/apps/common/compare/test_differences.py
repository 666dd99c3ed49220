"""Arms that cannot be paired with the routed one are named."""

import numpy as np
import pytest

from apps.common.compare.arms import Outcome
from apps.common.compare.cells import Cell
from apps.common.compare.differences import differences
from apps.common.compare.measurements import Measured
from apps.common.errors import UserError

PLACE = ("all", "loss")


def _measured(arm, outcome, seed=0):
    return Measured(arm, Cell("toy", "coins", "c0", arm, {}, {}, seed, {}, final=True), outcome)


def _outcome(units, higher=False, weights=None):
    value = float(np.average(units, weights=weights))
    return Outcome(
        [(*PLACE, value, higher)],
        {PLACE: np.array(units)},
        weights=(weights and {PLACE: np.array(weights)}) or {},
    )


def test_arms_are_paired_by_data_slice_and_metric():
    other = Outcome([(*PLACE, 3.0, False), ("96", "loss", 1.0, False)])
    intervals = differences([_measured("routed", _outcome([1.0, 2.0])), _measured("mean", other)])
    assert [(i["arm"], i["slice"], i["difference"], i["units"]) for i in intervals] == [
        ("mean", "all", 1.5, 0)
    ]


def test_units_of_unequal_weight_are_averaged_by_weight():
    arms = [
        _measured("routed", _outcome([1.0, 2.0], weights=[3, 1])),
        _measured("mean", _outcome([1.0, 6.0], weights=[3, 1])),
    ]
    (interval,) = differences(arms)
    assert interval["difference"] == 1.0
    assert (1 - interval["low"]) * 3 == pytest.approx(
        interval["high"] - 1
    )  # the units lie 1 below and 3 above


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (_outcome([1.0, 2.0, 3.0]), "3 and 2 test units"),
        (_outcome([1.0, 2.0], higher=True), "do not agree on whether higher is better"),
        (_outcome([1.0, 2.0], weights=[3, 1]), "unequal weights"),
    ],
)
def test_arms_that_cannot_be_paired_are_named(outcome, sentence):
    with pytest.raises(UserError, match=rf"coins, loss of slice all: the arms mean and routed .*{sentence}"):
        differences([_measured("routed", _outcome([1.0, 2.0])), _measured("mean", outcome)])


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (Outcome([("96", "loss", 1.0, False)]), "the metric is missing for a seed"),
        (_outcome([1.0, 2.0, 3.0]), "the number of test units differs from seed to seed"),
        (_outcome([1.0, 2.0], weights=[3, 1]), "the weights of the test units differ from seed to seed"),
    ],
)
def test_seeds_that_differ_in_what_they_measured_are_named(second, sentence):
    routed = [_measured("routed", _outcome([1.0, 2.0]), seed) for seed in range(2)]
    arm = [_measured("mean", _outcome([1.0, 2.0])), _measured("mean", second, 1)]
    with pytest.raises(UserError, match=sentence):
        differences(routed + arm)


def test_arms_without_a_common_metric_are_refused():
    with pytest.raises(UserError, match="no arm shares a metric with routed"):
        differences(
            [_measured("routed", _outcome([1.0])), _measured("mean", Outcome([("all", "gain", 1.0, True)]))]
        )
