"""Estimates without a network."""

import torch

from apps.lidar.bound import Prior
from apps.lidar.fit import fitted, likeliest, moments
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import expected, histograms
from tests.apps.lidar.test_simulate import seeded

RIG = Rig()


def test_a_fit_of_what_is_expected_finds_the_truth() -> None:
    """Without noise and with known tissue the likeliest parameters are the true ones."""
    prior = Prior.draw(Ranges(photons=(1e5, 1e6)), 12, True, seeded())
    found = fitted(expected(prior.scenes, RIG), prior, RIG)
    error = found - torch.stack([prior.scenes.depth, prior.scenes.lifetime], dim=1)
    assert error[:, 1].abs().median() < 0.01
    assert error[:, 0].abs().median() < 0.15


def test_a_fit_is_at_least_as_likely_as_the_truth() -> None:
    prior = Prior.draw(Ranges(photons=(2000.0, 20_000.0)), 20, True, seeded())
    counts = histograms(prior.scenes, RIG, seeded(1)).double()
    level = [expected(prior.at(at), RIG) for at in (likeliest(counts, prior, RIG), prior.unit)]
    chance = [(counts * light.log() - light).sum(1) for light in level]
    assert (chance[0] > chance[1]).all()
    found = fitted(counts, prior, RIG)
    error = found - torch.stack([prior.scenes.depth, prior.scenes.lifetime], dim=1)
    assert error[:, 0].square().mean().sqrt() < 0.5
    assert error[:, 1].square().mean().sqrt() < 0.06
    low, high = Ranges().depth
    assert ((found[:, 0] >= low) & (found[:, 0] <= high)).all()


def test_moments_follow_lifetime_and_depth() -> None:
    prior = Prior.draw(Ranges(photons=(1e5, 1e6), background=(0.0, 0.01)), 200, True, seeded())
    found = moments(expected(prior.scenes, RIG), prior, Ranges(), RIG)
    for place, truth in enumerate((prior.scenes.depth, prior.scenes.lifetime)):
        assert torch.corrcoef(torch.stack([found[:, place], truth]))[0, 1] > 0.8


def test_moments_of_a_histogram_are_its_own() -> None:
    prior = Prior.draw(Ranges(), 20, True, seeded(2))
    counts = histograms(prior.scenes, RIG, seeded(3))
    whole = moments(counts, prior, Ranges(), RIG)
    alone = torch.cat([moments(counts[[i]], prior[torch.tensor([i])], Ranges(), RIG) for i in range(20)])
    torch.testing.assert_close(whole, alone)
