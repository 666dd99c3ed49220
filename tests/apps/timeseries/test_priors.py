"""Priors: seeded, standardised, and with the covariances and periods that they say."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.timeseries import priors
from apps.timeseries.priors import PRIORS, Kernel, draw


def correlation(x: np.ndarray, lag: int) -> float:
    return float(np.corrcoef(x[..., lag:].ravel(), x[..., :-lag].ravel())[0, 1])


@pytest.mark.parametrize("prior", PRIORS)
def test_draws_are_seeded_standardised_and_each_another(prior: str) -> None:
    first, again, other = draw(prior, 12, 200, 3), draw(prior, 12, 200, 3), draw(prior, 12, 200, 4)
    assert np.array_equal(first, again)
    assert first.shape == (12, 200)
    assert np.isfinite(first).all()
    np.testing.assert_allclose(first.mean(1), 0, atol=1e-9)
    np.testing.assert_allclose(first.std(1), 1, atol=1e-6)
    assert np.abs(first - other).max() > 0.1
    assert len(np.unique(first.round(6), axis=0)) == 12


def test_the_numbers_of_one_prior_are_not_those_of_another() -> None:
    assert not np.array_equal(draw("compositions", 3, 100, 0), draw("regimes", 3, 100, 0))


@pytest.mark.parametrize(
    "kernel",
    [
        priors.rbf(5.0),
        priors.periodic(6.0, 1.0),
        priors.rational_quadratic(4.0, 1.0),
        priors.add(priors.linear(10.0, 20.0), priors.white(0.1)),
        priors.multiply(priors.rbf(8.0), priors.linear(0.0, 20.0)),
    ],
)
def test_draws_have_the_covariance_of_their_kernel(kernel: Kernel) -> None:
    """The error of an entry's estimate has variance (K_ii K_jj + K_ij^2) / draws; five deviations of that."""
    draws = priors.sample(np.random.default_rng(0), kernel, 20_000, 20)
    wanted = kernel(np.arange(20.0))
    error = draws.T @ draws / len(draws) - wanted
    size = np.sqrt((np.outer(wanted.diagonal(), wanted.diagonal()) + wanted**2) / len(draws))
    assert (np.abs(error) <= 5 * size + 1e-5).all()


def test_kernels_by_hand() -> None:
    time = np.array([0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(priors.rbf(2.0)(time)[0], np.exp([0, -1 / 8, -4 / 8, -9 / 8]))
    np.testing.assert_allclose(priors.periodic(2.0, 1.0)(time)[0], [1, np.exp(-2), 1, np.exp(-2)])
    np.testing.assert_allclose(priors.rational_quadratic(1.0, 0.5)(time)[0] ** -2, [1, 2, 5, 10])
    np.testing.assert_allclose(priors.linear(1.0, 2.0)(time)[3], np.array([-2, 0, 2, 4]) / 4)
    np.testing.assert_allclose(priors.white(0.3)(time), 0.3 * np.eye(4))
    both = priors.rbf(2.0), priors.white(0.3)
    np.testing.assert_allclose(priors.add(*both)(time)[1, 1], 1.3)
    np.testing.assert_allclose(priors.multiply(*both)(time), 0.3 * np.eye(4))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 120))
def test_every_random_kernel_is_a_covariance(seed: int, rows: int) -> None:
    covariance = priors.random_kernel(np.random.default_rng(seed), rows)(np.arange(float(rows)))
    np.testing.assert_allclose(covariance, covariance.T)
    values = np.linalg.eigvalsh(covariance)
    assert values.min() >= -1e-9 * max(values.max(), 1.0)


@pytest.mark.parametrize("period", [7, 24])
def test_seasons_come_back_after_their_period_and_not_before(period: int) -> None:
    x = priors.seasonal(np.random.default_rng(0), np.full(2000, period), 5 * period)
    np.testing.assert_allclose(x[:, period:], x[:, :-period], atol=1e-9)
    assert max(correlation(x, lag) for lag in range(2, period - 1)) < 0.9
    assert x.std() == pytest.approx(1.0, abs=0.05)


def test_seasons_of_a_composition_show_in_its_autocorrelation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "CLOCKS", ((24, 168),))
    steps = np.diff(draw("compositions", 300, 1008, 0), axis=1)  # what wanders is less in steps
    assert correlation(steps, 24) > 0.3
    assert correlation(steps, 168) > correlation(steps, 24)
    assert correlation(steps, 24) > correlation(steps, 19) + 0.2


@pytest.mark.parametrize("persistence", [0.0, 0.6, 0.95])
def test_autoregression_is_stationary_with_its_persistence(persistence: float) -> None:
    x = priors.autoregression(np.random.default_rng(0), np.full(4000, persistence), 60)
    assert correlation(x, 1) == pytest.approx(persistence, abs=0.02)
    assert correlation(x, 3) == pytest.approx(persistence**3, abs=0.02)
    for column in (0, 59):
        assert x[:, column].std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("rule", "low", "high"), [(priors.oscillation, 6, 96), (priors.pulses, 8, 60), (priors.ramps, 40, 200)]
)
def test_rules_have_the_stated_periods(rule: Callable[..., np.ndarray], low: int, high: int) -> None:
    """The strongest frequency of each series is that of a period in the range, or a multiple of it."""
    x = rule(np.random.default_rng(0), 50, 4000)
    power = np.abs(np.fft.rfft(x - x.mean(1, keepdims=True))) ** 2
    first = np.array([np.flatnonzero(row > 0.5 * row.max())[0] for row in power])
    period = 4000 / first
    assert period.min() > low - 1
    assert period.max() < high + 4
    assert period.std() > 5


def test_a_series_keeps_to_three_rules_and_switches_as_often_as_stated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With constants as rules, levels and noise do not hide which rule is on."""
    constants = tuple((lambda rng, s, t, c=c: np.full((s, t), 20.0 * c)) for c in range(5))
    monkeypatch.setattr(priors, "RULES", constants)
    on = (priors.regimes(np.random.default_rng(0), 400, 3000) / 20).round()
    kinds = np.array([len(np.unique(row)) for row in on])
    assert kinds.max() == 3
    assert (kinds == 3).mean() > 0.9
    assert set(np.unique(on)) == {0, 1, 2, 3, 4}
    mean_rate = (1 / 30 - 1 / 300) / np.log(10)  # of 1 / stay, whose logarithm is uniform
    assert (np.diff(on) != 0).mean() == pytest.approx(2 / 3 * mean_rate, rel=0.1)
