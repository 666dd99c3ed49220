"""Histograms: what they expect, and how they are drawn."""

import dataclasses
import math

import pytest
import torch

from apps.lidar.diffusion import by_diffusion
from apps.lidar.instrument import Clock, Detector, measured
from apps.lidar.rig import Rig
from apps.lidar.scenes import TOLERANCE, Ranges, Scenes, as_given
from apps.lidar.simulate import expected, first_of_flash, histograms, signal

RIG = Rig()


def scenes(**values: float | list[float]) -> Scenes:
    """Scenes that differ in what is given as a list."""
    usual = {
        "depth": 5.0,
        "lifetime": 0.7,
        "scattering": 1.0,
        "absorption": 0.01,
        "photons": 2000.0,
        "response": 0.2,
        "background": 0.0,
        "second_lifetime": 0.3,
        "second_share": 0.0,
    }
    number = max((len(v) for v in values.values() if isinstance(v, list)), default=1)
    full = {k: torch.as_tensor(v, dtype=torch.float64).expand(number) for k, v in {**usual, **values}.items()}
    return Scenes(**full)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_delays_add_up() -> None:
    """The mean arrival is the sum of those of all that is convolved, where the window is long enough."""
    clock = Clock(bins=2048)
    scene = scenes(depth=[1.0, 4.0, 9.0], lifetime=[0.2, 0.8, 1.5])
    small = torch.tensor([0.0, 1e-4], dtype=torch.float64)
    light = by_diffusion(scene.depth, scene.scattering, scene.absorption, small)
    travel = -(light[:, 1] / light[:, 0]).angle() / 1e-4
    torch.testing.assert_close(
        signal(scene, Rig(clock)) @ clock.centres, travel + scene.lifetime, rtol=2e-3, atol=1e-3
    )


def test_the_tail_falls_by_the_lifetime() -> None:
    late = signal(scenes(lifetime=[0.5, 1.5], absorption=0.05), RIG)[:, 150:]
    slope = (late[:, -1] / late[:, 0]).log() / ((late.shape[1] - 1) * RIG.clock.width)
    torch.testing.assert_close(-1 / slope, torch.tensor([0.5, 1.5], dtype=torch.float64), rtol=0.01, atol=0)


def test_two_lifetimes_are_the_mixture_of_two_signals() -> None:
    rig = Rig(Clock(bins=1024))
    one, other, both = (
        signal(scenes(lifetime=0.4, second_lifetime=1.2, second_share=share), rig)
        for share in (0.0, 1.0, 0.25)
    )
    torch.testing.assert_close(both, 0.75 * one + 0.25 * other, rtol=1e-3, atol=1e-6)


def test_a_measured_response_takes_the_place_of_the_gaussian_one() -> None:
    time = torch.arange(-1, 1, 0.002, dtype=torch.float64)
    gaussian = torch.exp(-4 * math.log(2) * (time / 0.2).square())
    rig = Rig(response=(tuple(time.tolist()), tuple(gaussian.tolist())))
    wanted = signal(scenes(response=0.2), RIG)
    torch.testing.assert_close(
        signal(scenes(response=[0.1, 0.3]), rig), wanted.expand(2, -1), atol=1e-5, rtol=1e-3
    )


def test_a_tail_of_the_response_delays_nothing_but_later_light() -> None:
    """Its centre of mass is the flash: two lines of light are half the light of each, so far apart."""
    time = tuple((torch.arange(41) * 0.032).tolist())
    counts = tuple(3e4 if i == 0 else 1e4 if i == 40 else 0.0 for i in range(41))
    apart = Rig(response=(time, counts))
    sharp = signal(scenes(response=1e-6), RIG)
    _, centre = measured(apart.response, RIG.clock)
    assert centre == pytest.approx(10 * 0.032)
    found = signal(scenes(), apart)
    wanted = 0.75 * sharp[:, 10:-30] + 0.25 * torch.nn.functional.pad(sharp, (30, 0))[:, :-70]
    torch.testing.assert_close(found[:, : wanted.shape[1]], wanted, atol=2e-4, rtol=0)


def test_counts_are_poisson_around_what_is_expected() -> None:
    scene = scenes(depth=[5.0] * 4000, background=0.05)
    mean = expected(scene[slice(0, 1)], RIG)[0]
    drawn = histograms(scene, RIG, seeded()).double()
    error = (mean / len(scene)).sqrt()
    assert ((drawn.mean(0) - mean).abs() < 5 * error).all()
    bright = mean > 1
    torch.testing.assert_close(
        (drawn.var(0) / mean)[bright].mean(), torch.tensor(1.0).double(), rtol=0.02, atol=0
    )
    assert torch.equal(histograms(scene, RIG, seeded()), drawn.float())


def test_background_is_its_share_of_all_photons_at_any_time() -> None:
    counts = expected(scenes(background=[0.0, 0.05]), RIG)
    assert counts[0].sum() == pytest.approx(2000)
    assert 1 - counts[0].sum() / counts[1].sum() == pytest.approx(0.05)
    torch.testing.assert_close(counts[1] - counts[0], (counts[1] - counts[0]).mean().expand(RIG.clock.bins))


def test_afterpulses_come_later_and_are_as_many_as_told() -> None:
    clock, detector = Clock(bins=1024), Detector(afterpulses=0.02, afterpulse_time=1.0)
    plain = expected(scenes(), Rig(clock))
    more = expected(scenes(), Rig(clock, detector)) - plain
    assert (more >= -1e-9).all()
    assert more.sum() == pytest.approx(0.02 * 2000, rel=0.01)
    delay = more @ clock.centres / more.sum() - plain @ clock.centres / plain.sum()
    assert delay.item() == pytest.approx(1.0, rel=0.02)


def test_of_many_photons_a_flash_the_first_alone_is_seen() -> None:
    """Against flashes drawn one by one."""
    counts = torch.tensor([[1.0, 5.0, 3.0, 2.0, 1.0]], dtype=torch.float64)
    rate, flashes = 0.8, 400_000
    arrived = torch.poisson((rate * counts / counts.sum()).expand(flashes, -1), generator=seeded())
    first = (arrived > 0) & (arrived.cumsum(1) - arrived == 0)
    wanted = first.double().mean(0) * counts.sum() / rate
    torch.testing.assert_close(first_of_flash(counts, rate)[0], wanted, rtol=0.02, atol=0)
    torch.testing.assert_close(first_of_flash(counts, 1e-6), counts, rtol=1e-5, atol=0)


def test_scenes_lie_in_their_ranges_and_fill_them() -> None:
    drawn = Ranges().draw(20_000, seeded())
    for field in dataclasses.fields(Ranges):
        low, high = getattr(Ranges(), field.name)
        values = getattr(drawn, field.name)
        assert low <= values.min()
        assert values.max() <= high
        if high > low:
            share = (
                (values / low).log() / torch.tensor(high / low).log()
                if field.name == "photons"
                else (values - low) / (high - low)
            )
            torch.testing.assert_close(
                share.quantile(torch.tensor([0.25, 0.5, 0.75]).double()),
                torch.tensor([0.25, 0.5, 0.75]).double(),
                atol=0.02,
                rtol=0,
            )


def test_what_is_known_of_tissue_is_known_within_a_tenth() -> None:
    truth = torch.full((10_000,), 2.0, dtype=torch.float64)
    share = as_given(truth, seeded()) / truth - 1
    assert share.abs().max() <= TOLERANCE
    assert share.std().item() == pytest.approx(TOLERANCE / 3**0.5, rel=0.03)


@pytest.mark.parametrize("wrong", [{"afterpulses": -0.1}, {"afterpulse_time": 0.0}, {"pileup": float("nan")}])
def test_a_detector_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Detector(**wrong)
