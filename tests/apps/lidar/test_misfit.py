"""Histograms that the forward model can and cannot have made."""

from dataclasses import replace

import pytest
import torch

from apps.lidar.bound import Prior
from apps.lidar.flags import SURELY
from apps.lidar.instrument import Detector
from apps.lidar.misfit import chance
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges, Scenes
from apps.lidar.simulate import histograms
from tests.apps.lidar.test_simulate import seeded

RIG, NUMBER = Rig(), 600


def estimates(scenes: Scenes, error: float) -> torch.Tensor:
    """Depths and lifetimes about as good as a network's: off by a share of the range."""
    noise = error * torch.randn(len(scenes), 2, generator=seeded(7), dtype=torch.float64)
    return torch.stack([scenes.depth, scenes.lifetime], dim=1) + noise * torch.tensor([9.0, 1.3])


@pytest.mark.parametrize("known", [True, False])
def test_what_is_simulated_is_not_suspected_and_what_is_not_is(known: bool) -> None:
    prior = Prior.draw(Ranges(), NUMBER, known, seeded())
    scenes, bright = prior.scenes, prior.scenes.photons > 6000
    about = estimates(scenes, 0.04 if known else 0.08)

    def suspected(counts: torch.Tensor) -> torch.Tensor:
        return (chance(counts, about, prior, RIG, known) < SURELY).double()

    counts = histograms(scenes, RIG, seeded(1))
    assert suspected(counts).mean() < 0.005
    assert suspected(histograms(scenes, RIG, seeded(1), "monte_carlo")).mean() < 0.005
    assert suspected(counts.flip(1)).mean() > 0.99
    flat = torch.poisson(torch.full_like(counts, 4.0), generator=seeded(2))
    assert suspected(flat).mean() > 0.99
    narrow = replace(RIG, clock=replace(RIG.clock, width=0.7 * RIG.clock.width))
    assert suspected(histograms(scenes, narrow, seeded(1)))[bright].mean() > 0.5
    longer = scenes.having(second_lifetime=3 * scenes.lifetime, second_share=torch.full((NUMBER,), 0.3))
    assert suspected(histograms(longer, RIG, seeded(1)))[bright].mean() > 0.1


@pytest.mark.parametrize(
    "detector", [Detector(pileup=2.0), Detector(afterpulses=0.1), Detector(0.05, 1.0, 0.5)]
)
def test_what_a_detector_loses_and_adds_is_no_misfit(detector: Detector) -> None:
    prior, rig = Prior.draw(Ranges(), NUMBER, True, seeded()), replace(RIG, detector=detector)
    counts = histograms(prior.scenes, rig, seeded(1))
    assert (chance(counts, estimates(prior.scenes, 0.04), prior, rig, True) < SURELY).double().mean() < 0.005


def test_the_chance_is_even_where_the_model_holds() -> None:
    """Of bright light, where photons are nearly normal, near the truth: a tenth lies below a tenth."""
    prior = Prior.draw(Ranges(photons=(5000.0, 20_000.0)), NUMBER, True, seeded())
    found = chance(histograms(prior.scenes, RIG, seeded(1)), estimates(prior.scenes, 0.01), prior, RIG, True)
    for share in (0.1, 0.5, 0.9):
        assert abs(float((found < share).double().mean()) - share) < 0.08


def test_the_chance_of_a_histogram_is_its_own() -> None:
    prior = Prior.draw(Ranges(), 12, False, seeded(3))
    counts, about = histograms(prior.scenes, RIG, seeded(4)), estimates(prior.scenes, 0.05)
    whole = chance(counts, about, prior, RIG, False)
    one = [chance(counts[[i]], about[[i]], prior[torch.tensor([i])], RIG, False) for i in range(12)]
    torch.testing.assert_close(whole, torch.cat(one))
