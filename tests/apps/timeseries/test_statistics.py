"""Statistics of the points up to each token, by hand and by brute force."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from apps.timeseries.statistics import DESCRIPTIVE, autocorrelation_peaks, statistics


def tokens(values: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    values = values.view(len(values), -1, patch)
    return values, torch.ones_like(values, dtype=torch.bool)


def test_the_six_numbers_by_hand() -> None:
    """Up to the first token 1, 3; up to the second one 1, 3, 2, 6."""
    values, observed = tokens(torch.tensor([[1.0, 3.0, 2.0, 6.0]]), 2)
    first, second = statistics(values, observed, 1)[0, :, :DESCRIPTIVE].tolist()
    assert first == pytest.approx([2.0, 1.0, 1.0, 3.0, 1.0, 2 * 2.0])
    slope = (-1.5 * -2 + -0.5 * 0 + 0.5 * -1 + 1.5 * 3) / (2.25 + 0.25 + 0.25 + 2.25)
    assert second == pytest.approx([3.0, math.sqrt((4 + 0 + 1 + 9) / 4), 1.0, 6.0, 2.0, 2 * slope], rel=1e-5)


def test_missing_points_have_no_share() -> None:
    values = torch.tensor([[[1.0, 0.0], [0.0, 5.0]]])
    observed = torch.tensor([[[True, False], [False, True]]])
    first, second = statistics(values, observed, 1)[0, :, :DESCRIPTIVE].tolist()
    assert first == pytest.approx([1.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    assert second == pytest.approx([3.0, 2.0, 1.0, 5.0, 1.0, 2 * 4 / 3])  # from 1 to 5 in three steps


def test_before_the_first_point_all_is_zero() -> None:
    values, observed = tokens(torch.ones(1, 6), 2)
    observed[0, :2] = False
    found = statistics(values.masked_fill(~observed, 0.0), observed, 2)[0]
    assert not found[:2].any()
    assert found[2, 0] == 1.0


def test_no_token_looks_ahead() -> None:
    torch.manual_seed(0)
    values, observed = tokens(torch.randn(3, 40), 4)
    changed = values.clone()
    changed[:, 6:] = 9.0
    before, after = statistics(values, observed, 3), statistics(changed, observed, 3)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert (before[:, 6:] - after[:, 6:]).abs().amax(-1).gt(0.1).all()


@pytest.mark.parametrize("period", [8, 24])
def test_the_strongest_peak_is_the_period(period: int) -> None:
    time = torch.arange(240.0)
    values, observed = tokens((time * 2 * torch.pi / period).sin()[None], 24)
    log_lag, correlation = statistics(values, observed, 2)[0, -1, DESCRIPTIVE:].view(2, 2)
    assert log_lag.exp().sub(1).tolist() == pytest.approx([period, 2 * period], abs=1e-3)
    assert 1.0 > correlation[0] > correlation[1] > 0.5


def test_peaks_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    x -= x.mean()
    r = np.array([(x[: 50 - lag] * x[lag:]).sum() for lag in range(50)]) / (x**2).sum()
    peaks = [lag for lag in range(1, 49) if r[lag - 1] < r[lag] >= r[lag + 1] and r[lag] > 1e-3]
    expected = sorted(peaks, key=lambda lag: -r[lag])[:4]
    assert len(expected) == 4
    log_lag, strength = autocorrelation_peaks(torch.tensor(x), 4)
    assert log_lag.exp().sub(1).tolist() == pytest.approx(expected)
    assert strength.tolist() == pytest.approx(r[expected].tolist())


@pytest.mark.parametrize("length", [2, 4])
def test_a_constant_and_a_very_short_window_have_no_peaks(length: int) -> None:
    values, observed = tokens(torch.full((1, length), 3.0), 2)
    assert not statistics(values, observed, 3)[..., DESCRIPTIVE:].any()
