"""The physical limit of scenes drawn from ranges, by their photons."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import torch

from apps.lidar.bound import Prior, bound
from apps.lidar.estimates import edges
from apps.lidar.instrument import Clock
from apps.lidar.model import OUTPUTS
from apps.lidar.scenes import Ranges

NUMBER = 300
"""Scenes from which the bound of each part of the photons is computed."""


@cache
def bounds(ranges: Ranges, clock: Clock, known_tissue: bool) -> dict[str, list[float]]:
    """The least mean squared error (mm^2, ns^2) of each output in each part of the photons (`edges`).

    What is least for known tissue is no more for unknown tissue, so of this the greater one is told.
    """
    found: dict[str, list[float]] = {name: [] for name in OUTPUTS}
    for part, (low, high) in enumerate(pairwise(edges("photons", ranges))):
        inside = replace(ranges, photons=(float(low), float(high)))
        some = []
        for known in {True, known_tissue}:
            generator = torch.Generator().manual_seed(part)
            some.append(bound(Prior.draw(inside, NUMBER, known, generator), clock))
        for name, values in found.items():
            values.append(max(one[name] for one in some))
    return found
