"""Bins of time and the answer of the instrument."""

import numpy as np
import pytest
import torch

from apps.common.errors import UserError
from apps.lidar.instrument import Clock, Response, gaussian, measured
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import signal

CLOCK = Clock()


def test_a_flash_stands_where_the_clock_says_as_wide_as_the_response() -> None:
    light = CLOCK.curve(gaussian(torch.tensor([0.3], dtype=torch.float64), CLOCK.omega))[0]
    assert float(light.sum()) == pytest.approx(1, abs=1e-6)
    assert float(light @ CLOCK.centres) == pytest.approx(0, abs=1e-6)
    variance = float(light @ CLOCK.centres.square())
    inside_a_bin = CLOCK.width**2 / 12
    assert variance == pytest.approx(0.3**2 / (8 * np.log(2)) + inside_a_bin, rel=1e-4)


def test_a_delay_moves_the_light_and_nothing_comes_round_from_the_end() -> None:
    answer = gaussian(torch.tensor([0.2], dtype=torch.float64), CLOCK.omega)
    late = CLOCK.curve(answer * torch.exp(-1j * CLOCK.omega * 32 * CLOCK.width))[0]
    torch.testing.assert_close(late[32:], CLOCK.curve(answer)[0, :-32], atol=1e-9, rtol=0)
    gone = CLOCK.curve(answer * torch.exp(-1j * CLOCK.omega * 1.2 * CLOCK.bins * CLOCK.width))[0]
    assert gone.abs().max() < 1e-6


def sampled(width: float, background: float = 0.0, until: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    time = np.arange(0, until, 0.01)
    return time, 1e4 * np.exp(-4 * np.log(2) * ((time - 1.3) / width) ** 2) + background


def response(time: np.ndarray, counts: np.ndarray) -> Response:
    return tuple(time.tolist()), tuple(counts.tolist())


def test_a_measured_gaussian_is_a_gaussian_wherever_it_stands() -> None:
    wanted = CLOCK.curve(gaussian(torch.tensor([0.25], dtype=torch.float64), CLOCK.omega))[0]
    for background in (0.0, 30.0):
        spectrum, centre = measured(response(*sampled(0.25, background=background)), CLOCK)
        assert centre == pytest.approx(1.3, abs=0.01)
        found = CLOCK.curve(spectrum)
        torch.testing.assert_close(found, wanted, atol=2e-3 * float(wanted.max()), rtol=0)


@pytest.mark.parametrize(
    ("time", "counts", "sentence"),
    [
        (np.array([0, 1, 3.0]), np.ones(3), "not equally spaced"),
        (np.arange(9.0), np.zeros(9), "has no light"),
        (*sampled(1.5, until=12.0), "wide and the histograms' window"),
        (*sampled(1.5, until=2.6), "wide and the histograms' window"),
    ],
)
def test_a_response_that_cannot_be_is_refused(time: np.ndarray, counts: np.ndarray, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        measured(response(time, counts), Clock(bins=64))


@pytest.mark.parametrize(
    ("peak", "floor", "bins"), [(1e4, 20, 1024), (1e4, 100, 4096), (1e3, 3, 512), (1e3, 10, 512)]
)
def test_dark_counts_move_nothing(peak: float, floor: float, bins: int) -> None:
    time = (np.arange(bins) + 0.5) * 0.032
    light = peak * np.exp(-4 * np.log(2) * ((time - 1.0) / 0.2) ** 2)
    counts = np.random.default_rng(bins).poisson(light + floor).astype(float)
    spectrum, centre = measured(response(time, counts), CLOCK)
    assert centre == pytest.approx(1.0, abs=0.006)
    wanted = CLOCK.curve(gaussian(torch.tensor([0.2], dtype=torch.float64), CLOCK.omega))[0]
    assert float((CLOCK.curve(spectrum) - wanted).abs().sum() / 2) < 0.06


@pytest.mark.parametrize(("width", "begin", "end"), [(0.2, 0.7, 1.3), (0.2, 0.6, 2.0), (2.0, -3.0, 5.0)])
def test_a_table_of_little_but_light_is_taken_as_it_is(width: float, begin: float, end: float) -> None:
    """Cut close to the peak, or nearly as wide as its table: no dark bins tell of a background."""
    time = np.arange(begin, end, 0.032)
    counts = 1e4 * np.exp(-4 * np.log(2) * ((time - 1.0) / width) ** 2)
    spectrum, centre = measured(response(time, counts), CLOCK)
    assert centre == pytest.approx(1.0, abs=0.01 * width + 0.005)
    wanted = CLOCK.curve(gaussian(torch.tensor([width], dtype=torch.float64), CLOCK.omega))[0]
    assert float((CLOCK.curve(spectrum) - wanted).abs().sum() / 2) < 0.05


def test_rounded_times_and_coarse_rows_are_no_fault() -> None:
    time = np.arange(0, 4, 0.02743)
    counts = 1e4 * np.exp(-4 * np.log(2) * ((time - 1.3) / 0.25) ** 2)
    wanted = CLOCK.curve(gaussian(torch.tensor([0.25], dtype=torch.float64), CLOCK.omega))[0]
    coarse = np.arange(0, 4, 0.1)
    shape = 1e4 * np.exp(-4 * np.log(2) * ((coarse - 1.3) / 0.25) ** 2)
    for table in ((np.round(time, 3), counts), (coarse, shape)):
        found = CLOCK.curve(measured(response(*table), CLOCK)[0])
        assert float((found - wanted).abs().sum() / 2) < 0.05


def test_light_does_not_come_round_in_a_short_window() -> None:
    short, long = Rig(Clock(bins=64)), Rig(Clock(bins=2048))
    scenes = Ranges(lifetime=(1.4, 1.5)).draw(20, torch.Generator().manual_seed(0))
    light = signal(scenes, long)[:, :64]
    torch.testing.assert_close(signal(scenes, short), light / light.sum(1, keepdim=True), atol=1e-5, rtol=0)
