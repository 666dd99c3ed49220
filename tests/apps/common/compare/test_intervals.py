"""Intervals: hand-computed cases, coverage by simulation, and what they refuse."""

import numpy as np
import pytest
from scipy import stats

from apps.common.compare import intervals
from apps.common.compare.intervals import Sample, paired_interval

WIDENED = np.sqrt(2) * stats.t.ppf(0.975, 1) / stats.norm.ppf(0.975)
"""What a deviation of 1 becomes where there are two: times sqrt(2 / 1) t(1) / z."""


def _sample(units, weights=None):
    units = np.atleast_2d(np.asarray(units, dtype=float))
    return Sample(np.average(units, axis=1, weights=weights), units, weights)


def _zero(sample: Sample) -> Sample:
    return Sample(np.zeros(1), np.zeros((1, sample.units.shape[1])), sample.weights)


def test_two_units_of_one_seed_by_hand():
    """Two draws of 1 -+ w have the means 1 - w, 1, 1 + w with shares 1/4, 1/2, 1/4."""
    arm = _sample([0, 2])
    bounds = paired_interval(arm, _zero(arm))
    assert (bounds.difference, bounds.seeds, bounds.units) == (1.0, 1, 2)
    assert (bounds.low, bounds.high) == pytest.approx((1 - WIDENED, 1 + WIDENED))
    inner = paired_interval(arm, _zero(arm), level=0.4)
    assert (inner.low, inner.high) == (1.0, 1.0)


def test_weighted_units_by_hand():
    """The mean is 4 / (3 + 1) = 1; the units lie 1 below and 3 above it, and one of each gives it again."""
    weights = np.array([3.0, 1.0])
    arm = _sample([0, 4], weights)
    bounds = paired_interval(arm, _zero(arm))
    assert (bounds.low, bounds.high) == pytest.approx((1 - WIDENED, 1 + 3 * WIDENED))
    inner = paired_interval(arm, _zero(arm), level=0.4)
    assert (inner.low, inner.high) == (1.0, 1.0)


def test_two_seeds_by_hand():
    """Draws of two seeds at +-1 have the means -1, 0, 1, widened."""
    bounds = paired_interval(Sample(np.array([-1.0, 1.0])), Sample(np.zeros(2)))
    assert (bounds.difference, bounds.seeds, bounds.units) == (0.0, 2, 0)
    assert (bounds.low, bounds.high) == pytest.approx((-WIDENED, WIDENED))


def test_a_constant_difference_has_an_interval_without_width():
    noise = np.random.default_rng(0).normal(size=(5, 30))
    bounds = paired_interval(_sample(noise + 0.25), _sample(noise))
    assert (bounds.difference, bounds.low, bounds.high) == pytest.approx((0.25, 0.25, 0.25))
    assert bounds.beyond


def test_pairing_by_seed_and_unit_removes_what_the_arms_share():
    rng = np.random.default_rng(1)
    shared = 10 * rng.normal(size=(5, 1)) + 10 * rng.normal(size=(1, 40))
    routed, arm = shared + 0.01 * rng.normal(size=(5, 40)), shared + 0.01 * rng.normal(size=(5, 40))
    paired = paired_interval(_sample(arm), _sample(routed))
    shuffled = paired_interval(_sample(arm), _sample(routed[::-1, ::-1]))
    assert paired.high - paired.low < 0.05
    assert shuffled.high - shuffled.low > 1


def test_an_arm_without_randomness_stands_for_every_seed():
    rng = np.random.default_rng(2)
    single, routed = rng.normal(size=(1, 20)), rng.normal(size=(5, 20))
    once = paired_interval(_sample(single), _sample(routed), "x")
    repeated = paired_interval(_sample(np.repeat(single, 5, axis=0)), _sample(routed), "x")
    assert once == repeated
    assert once.seeds == 5


def test_swapping_the_arms_mirrors_the_interval():
    rng = np.random.default_rng(3)
    one, other = _sample(rng.normal(size=(5, 20))), _sample(rng.normal(size=(5, 20)))
    there, back = paired_interval(one, other), paired_interval(other, one)
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-there.difference, -there.high, -there.low)
    )


def test_equal_entropy_gives_equal_draws_whatever_the_size_of_a_chunk(monkeypatch):
    rng = np.random.default_rng(4)
    one, other = _sample(rng.normal(size=(5, 50))), _sample(rng.normal(size=(5, 50)))
    whole = paired_interval(one, other, "a")
    assert paired_interval(one, other, "a") == whole
    assert paired_interval(one, other, "b") != whole
    monkeypatch.setattr(intervals, "CHUNK", 700)
    parts = paired_interval(one, other, "a")
    width = whole.high - whole.low
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.05 * width)


@pytest.mark.parametrize(
    ("seed_noise", "unit_noise", "rest", "units"),
    [(1.0, 0.0, 0.0, 60), (0.0, 1.0, 0.0, 60), (1.0, 1.0, 1.0, 60), (0.3, 1.0, 1.0, 60), (0.0, 1.0, 0.0, 4)],
)
def test_intervals_over_five_seeds_cover_the_true_difference_as_often_as_they_say(
    seed_noise, unit_noise, rest, units
):
    rng = np.random.default_rng(5)
    hits, trials, truth = 0, 400, 0.7
    for _ in range(trials):
        differences = truth + seed_noise * rng.normal(size=(5, 1)) + unit_noise * rng.normal(size=(1, units))
        arm = _sample(differences + rest * rng.normal(size=(5, units)))
        bounds = paired_interval(arm, _zero(arm), replicates=400)
        hits += bounds.low <= truth <= bounds.high
    assert 0.91 <= hits / trials <= 0.99


def test_claims_are_rare_where_there_is_no_difference():
    rng = np.random.default_rng(6)
    claims = 0
    for _ in range(400):
        arm = _sample(rng.normal(size=(5, 1)) + rng.normal(size=(5, 30)))
        claims += paired_interval(arm, _zero(arm), replicates=400).beyond
    assert claims / 400 <= 0.09


def test_nothing_is_claimed_below_five_seeds():
    clear = paired_interval(Sample(np.array([5.0, 5.1, 5.2, 5.1])), Sample(np.zeros(4)))
    assert clear.low > 0
    assert not clear.beyond
    assert paired_interval(Sample(np.array([5.0, 5.1, 5.2, 5.1, 5.0])), Sample(np.zeros(5))).beyond


def test_an_arm_without_units_is_compared_over_seeds_alone():
    rng = np.random.default_rng(7)
    with_units = _sample(rng.normal(size=(5, 20)))
    bounds = paired_interval(Sample(with_units.values), with_units)
    assert (bounds.units, bounds.low, bounds.high) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("arm", "routed", "sentence"),
    [
        (_sample(np.zeros((5, 3))), _sample(np.zeros((5, 4))), "3 and 4 test units"),
        (_sample(np.zeros((3, 3))), _sample(np.zeros((5, 3))), "3 and 5 seeds"),
        (_sample([0, 1], np.array([1.0, 2.0])), _sample([0, 1]), "unequal weights"),
    ],
)
def test_samples_that_do_not_pair_up_are_refused(arm, routed, sentence):
    with pytest.raises(ValueError, match=sentence):
        paired_interval(arm, routed)
