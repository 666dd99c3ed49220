"""Light at the surface of tissue, and how fast it goes inside."""

from functools import cache
from typing import Literal

import torch
from torch import Tensor

C = 299.792458
"""Speed of light in vacuum, mm/ns."""
INDEX = 1.37
"""Refractive index of tissue."""
Surface = Literal["matched", "mismatched"]
SURFACES: dict[Surface, float] = {"matched": 1.0, "mismatched": INDEX}
"""Index of tissue over that of what lies above it."""


def speed(index: float = INDEX) -> float:
    """Speed of light in a medium, mm/ns."""
    return C / index


def fresnel(cosine: Tensor, index: float) -> Tensor:
    """Share of unpolarised light that is reflected inside a medium at its surface to air.

    Args:
        cosine: of the angle to the normal inside, between 0 and 1.
        index: of the medium, 1 or more.
    """
    sine = index * (1 - cosine.square()).clamp(min=0).sqrt()
    outside = (1 - sine.square()).clamp(min=0).sqrt()
    across = (index * cosine - outside) / (index * cosine + outside)
    along = (cosine - index * outside) / (cosine + index * outside)
    reflected: Tensor = (across.square() + along.square()) / 2
    return torch.where(sine >= 1, torch.ones_like(reflected), reflected)


@cache
def mismatch(index: float = INDEX) -> float:
    """A = (1 + R) / (1 - R), by which a mismatch of indices moves the extrapolated plane out; 1 for none.

    R is the effective reflection of diffuse light, from Fresnel's law. Source: Haskell et al. (1994),
    Boundary conditions for the diffusion equation in radiative transfer.
    """
    if index == 1:
        return 1.0
    step = 1e-5
    cosine = torch.arange(step / 2, 1, step, dtype=torch.float64)
    reflected = fresnel(cosine, index)
    fluence = float((2 * cosine * reflected).sum() * step)
    current = float((3 * cosine.square() * reflected).sum() * step)
    effective = (fluence + current) / (2 - fluence + current)
    return (1 + effective) / (1 - effective)
