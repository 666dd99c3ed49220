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
    seen, there = np.array([100.0, 20.0, 40.0, 100.0]), np.array([150.0, 30.0, 100.0, 100.0])
    found = doubtful(seen, there, physical, scale, known=True).tolist()
    assert found == ["", "few photons", "outside window", "beyond training"]
    assert doubtful(seen, there, physical, scale, known=False)[0] == "beyond training"
