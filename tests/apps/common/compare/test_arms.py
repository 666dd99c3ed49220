"""Outcomes that contradict themselves are refused."""

import numpy as np
import pytest

from apps.common.compare.arms import Outcome, check_outcome

PLACE = ("all", "miss")


def test_an_outcome_whose_units_average_to_its_values_passes():
    units = np.array([1.0, 2.0, 6.0])
    check_outcome(Outcome([("all", "miss", 3.0, False), ("all", "speed", 7.0, True)], {PLACE: units}))
    weights = {PLACE: np.array([4.0, 1.0, 0.0])}
    check_outcome(Outcome([("all", "miss", 1.2, False)], {PLACE: units}, weights=weights))


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (Outcome([]), "at least one value"),
        (Outcome([("all", "miss", 1.0, False), ("all", "miss", 2.0, False)]), "one value for each"),
        (Outcome([("all", "miss", float("nan"), False)]), "miss of slice all is nan"),
        (Outcome([("all", "miss", 1.0, False)], {("all", "hit"): np.ones(2)}), "without a value"),
        (Outcome([("all", "miss", 1.0, False)], weights={PLACE: np.ones(2)}), "without a value"),
        (Outcome([("all", "miss", 1.0, False)], {PLACE: np.array([1.0, 2.0])}), "have the mean 1.5"),
        (Outcome([("all", "miss", 1.0, False)], {PLACE: np.array([1.0, np.nan])}), "have the mean nan"),
        (Outcome([("all", "miss", 1.0, False)], {PLACE: np.ones((2, 2))}), "one row of numbers"),
        (
            Outcome([("all", "miss", 1.0, False)], {PLACE: np.ones(2)}, weights={PLACE: np.ones(3)}),
            "as many weights",
        ),
        (
            Outcome([("all", "miss", 1.0, False)], {PLACE: np.ones(2)}, weights={PLACE: np.zeros(2)}),
            "weights",
        ),
        (
            Outcome([("all", "miss", 1.0, False)], {PLACE: np.ones(2)}, weights={PLACE: np.array([-1, 2])}),
            "weights",
        ),
    ],
)
def test_a_contradiction_is_refused(outcome, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_outcome(outcome)
