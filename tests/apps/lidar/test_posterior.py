"""The mean of the posterior: the exact one where it is known, and as sure as it says."""

from dataclasses import replace

import torch

from apps.lidar.bound import PARAMETERS, Prior, bound
from apps.lidar.instrument import Clock
from apps.lidar.posterior import ENOUGH, posterior
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import expected, histograms
from tests.apps.lidar.test_bound import ALONE
from tests.apps.lidar.test_simulate import seeded

RIG = Rig(Clock(bins=64, width=0.128))
TWO = replace(ALONE, depth=Ranges().depth, lifetime=Ranges().lifetime)
"""Scenes of which depth and lifetime alone are unknown."""


def test_it_is_the_mean_on_a_grid() -> None:
    prior = Prior.draw(TWO, 6, False, seeded(3))
    counts = histograms(prior.scenes, RIG, seeded(4))
    found = posterior(counts, prior, RIG, seeded())
    steps = (torch.arange(120, dtype=torch.float64) + 0.5) / 120
    grid = torch.cartesian_prod(steps, steps)
    unit = torch.full((len(grid), len(PARAMETERS)), 0.5, dtype=torch.float64)
    unit[:, :2] = grid
    one = Prior.of(prior.scenes[torch.zeros(len(grid), dtype=torch.long)], None, TWO)
    light = expected(one.at(unit), RIG)
    weight = (counts.double() @ light.log().T - light.sum(1)).softmax(1)
    outputs = one.outputs(unit)
    mean = weight @ outputs
    deviation = (weight @ outputs.square() - mean.square()).sqrt()
    assert (found.worth >= ENOUGH).all()
    assert ((found.mean - mean).abs() < 0.35 * deviation).all()  # the sample is worth some hundred draws
    torch.testing.assert_close(found.deviation, deviation, rtol=0.3, atol=0)


def test_it_is_as_sure_as_it_says_and_never_better_than_the_bound() -> None:
    ranges = Ranges(photons=(1000.0, 20_000.0))
    prior = Prior.draw(ranges, 250, True, seeded(1))
    found = posterior(histograms(prior.scenes, RIG, seeded(2)), prior, RIG, seeded())
    truth = torch.stack([prior.scenes.depth, prior.scenes.lifetime], dim=1)
    error, said = (found.mean - truth).square().mean(0), found.deviation.square().mean(0)
    assert ((error / said > 0.7) & (error / said < 1.4)).all()
    least = bound(Prior.draw(ranges, 250, True, seeded(3)), RIG)
    assert (said > 0.9 * torch.tensor(list(least.values()))).all()


def test_what_is_seen_twice_is_told_alike() -> None:
    """Scenes are sampled on their own: others beside them change nothing but the draws."""
    prior = Prior.draw(TWO, 3, False, seeded(5))
    counts = histograms(prior.scenes, RIG, seeded(6))
    twice = torch.tensor([0, 1, 2, 0, 1, 2])
    found = posterior(counts[twice], prior[twice], RIG, seeded())
    off = (found.mean[:3] - found.mean[3:]).abs()
    assert (off < 0.4 * found.deviation[:3]).all()
