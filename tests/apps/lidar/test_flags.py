"""Words for pixels, by hand."""

import numpy as np

from apps.lidar.flags import doubtful, unusable
from apps.lidar.readings import Scale
from apps.lidar.scenes import Ranges


def test_flags_by_hand() -> None:
    counts = np.full((5, 4), 20.0)
    counts[1] = 0
    counts[2, 0], counts[3, 0], counts[4, 0] = -1, np.inf, 255
    assert unusable(counts, full=255).tolist() == ["", "empty", "negative", "not finite", "saturated"]
    scale = Scale.of(Ranges())
    physical = {"depth": np.array([5.0, 5.0, 5.0, 12.0]), "lifetime": np.full(4, 1.0)}
    seen, there = np.array([300.0, 20.0, 140.0, 300.0]), np.array([350.0, 30.0, 400.0, 300.0])
    found = doubtful(seen, there, physical, scale, strange=np.array([False])).tolist()
    assert found == ["", "few photons", "outside window", "beyond training"]
    some = np.array([True, False, False, False])
    assert doubtful(seen, there, physical, scale, strange=some)[0] == "beyond training"
    bright = doubtful(
        np.array([1e6]),
        np.array([1e6]),
        {"depth": np.array([5.0]), "lifetime": np.array([1.0])},
        scale,
        some[1:2],
    )
    assert bright.tolist() == ["beyond training"]
