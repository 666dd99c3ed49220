"""The kind of a window: hand-made windows whose kind is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apps.timeseries.window_kinds import REGIMES, band, bands, regime, usual_deviation


def test_bands_are_octaves_of_the_period() -> None:
    assert bands(96) == ["96-48", "48-24", "24-12", "12-6", "6-2"]
    assert bands(4) == ["4-2"]
    assert bands(3) == ["3-2"]


@pytest.mark.parametrize(
    ("period", "name"), [(96, "96-48"), (32, "48-24"), (24, "24-12"), (8, "12-6"), (2, "6-2")]
)
def test_a_wave_is_in_the_band_of_its_period(period: int, name: str) -> None:
    time = torch.arange(96.0)
    wave = torch.cos(2 * np.pi * time / period)
    found = band(torch.stack([wave, 5 * wave - 3, wave + 0.3 * torch.sin(time)]))
    assert [bands(96)[i] for i in found] == [name] * 3


def test_a_straight_line_under_a_wave_does_not_count() -> None:
    time = torch.arange(96.0)
    windows = torch.stack([20 * time / 96 + torch.cos(2 * np.pi * time / 8)])
    assert bands(96)[int(band(windows)[0])] == "12-6"


@given(st.integers(1, 200), st.integers(1, 5))
def test_every_window_has_a_band(length: int, count: int) -> None:
    found = band(torch.randn(count, length))
    assert found.shape == (count,)
    assert int(found.min()) >= 0
    assert int(found.max()) < len(bands(length))


def test_regimes_by_hand() -> None:
    rising = torch.linspace(0, 1, 50)
    windows = torch.stack([rising, -rising, torch.sin(torch.arange(50) * 2 * np.pi / 5), 10 * rising])
    found = regime(windows, torch.tensor([0.5, 0.1, 1.0, 0.5]))
    assert [REGIMES[i] for i in found] == ["rising, calm", "falling, wild", "level, calm", "rising, wild"]


def test_what_is_usual_is_the_median_of_the_own_series() -> None:
    base = torch.tensor([[-1.0, 1.0]])
    context = torch.cat([base, 3 * base, 9 * base, 100 * base])
    found = usual_deviation(context, torch.tensor([0, 0, 0, 4]))
    torch.testing.assert_close(found, torch.tensor([3.0, 3.0, 3.0, 100.0]))
