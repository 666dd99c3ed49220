"""Words for pixels, by hand."""

import numpy as np
import torch

from apps.lidar.flags import doubtful, early, unusable
from apps.lidar.instrument import gaussian
from apps.lidar.readings import Scale
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import histograms
from tests.apps.lidar.test_simulate import seeded


def test_flags_by_hand() -> None:
    counts = np.full((5, 4), 20.0)
    counts[1] = 0
    counts[2, 0], counts[3, 0], counts[4, 0] = -1, np.inf, 255
    assert unusable(counts, full=255).tolist() == ["", "empty", "negative", "not finite", "saturated"]
    scale = Scale.of(Ranges())
    physical = {"depth": np.array([5.0, 5.0, 5.0, 12.0]), "lifetime": np.full(4, 1.0)}
    seen, there = np.array([300.0, 20.0, 140.0, 300.0]), np.array([350.0, 30.0, 400.0, 300.0])
    nowhere = np.zeros(4, dtype=bool)
    found = doubtful(seen, there, physical, scale, nowhere[:1], nowhere, nowhere).tolist()
    assert found == ["", "few photons", "outside window", "beyond training"]
    some = np.array([True, False, False, False])
    assert doubtful(seen, there, physical, scale, some, nowhere, nowhere)[0] == "beyond training"
    assert doubtful(seen, there, physical, scale, nowhere, some, nowhere)[0] == "light before flash"
    assert doubtful(seen, there, physical, scale, some, nowhere, some)[0] == "poor fit"
    bright = doubtful(
        np.array([1e6]),
        np.array([1e6]),
        {"depth": np.array([5.0]), "lifetime": np.array([1.0])},
        scale,
        nowhere[:1],
        nowhere[:1],
        nowhere[:1],
    )
    assert bright.tolist() == ["beyond training"]


def test_an_estimate_just_beyond_its_range_is_flagged_and_one_inside_is_not() -> None:
    scale, nowhere = Scale.of(Ranges()), np.zeros(4, dtype=bool)
    physical = {"depth": np.array([1.0, 10.0, 0.7, 10.3]), "lifetime": np.array([0.2, 1.5, 1.0, 1.0])}
    seen = np.full(4, 1000.0)
    found = doubtful(seen, seen, physical, scale, nowhere, nowhere, nowhere).tolist()
    assert found == ["", "", "beyond training", "beyond training"]


def test_what_has_no_target_has_light_before_the_flash() -> None:
    """Of scenes like those of training none is flagged; of background alone all."""
    rig, ranges = Rig(), Ranges(background=(0.05, 0.05))
    counts = histograms(ranges.draw(2000, seeded()), rig, seeded(1)).numpy()
    response = rig.clock.curve(gaussian(torch.tensor([0.3]).double(), rig.clock.omega))[0].numpy()
    scale = Scale.of(Ranges())
    assert early(counts, response, scale).mean() < 0.002
    generator = np.random.default_rng(0)
    for photons in (300, 2000, 20_000):
        flat = generator.poisson(photons / 256, (200, 256)).astype(float)
        assert early(flat, response, scale).mean() > 0.99
    late = np.zeros(256)
    late[0] = 1.0  # a flash at the beginning of the window leaves nothing to look at
    assert not early(flat, late, scale).any()
