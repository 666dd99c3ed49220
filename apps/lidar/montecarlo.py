"""Photons that wander through tissue one by one, where diffusion theory is only nearly right.

By the similarity relation scattering is isotropic, with the reduced coefficient. Lengths are in transport
lengths, 1 / scattering, so that one run without absorption serves every scattering, by scaling, and every
absorption, by Beer's law along the path (white Monte Carlo).

Light back is found by sending it in: by reciprocity, the light that leaves a spot of the surface, from a
source at some depth, is the fluence there of light that enters the spot from all directions of the air
(Lambert's law). Source: Alerstam, Andersson-Engels and Svensson (2008), White Monte Carlo for time-resolved
photon migration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from rich.progress import Progress
from torch import Tensor

from apps.lidar.optics import fresnel

RADIUS = torch.pi**-0.5
"""Of the target, a cylinder around the axis whose area is 1."""
SLICE = 0.5
"""Height of a target."""
BATCH = 500_000
"""Photons on their way at a time."""


@dataclass(frozen=True)
class Table:
    """Fluence by depth and path, of one photon sent in.

    Attributes:
        depth: (Z,) middle of each slice.
        edges: (J + 1,) ends of the bins of paths, ascending from 0.
        fluence: (Z, J) light in each bin, per area.
    """

    depth: Tensor
    edges: Tensor
    fluence: Tensor


def pencil(number: int, index: float, generator: torch.Generator) -> Tensor:
    """Directions (N, 3) of light that enters straight down."""
    return torch.tensor([0.0, 0.0, 1.0]).repeat(number, 1)


def lambert(number: int, index: float, generator: torch.Generator) -> Tensor:
    """Directions (N, 3) inside of light that enters from everywhere, less what the surface reflects."""
    cosine = torch.linspace(0, 1, 4097, dtype=torch.float64)
    middle = (cosine[1:] + cosine[:-1]) / 2
    enters = (middle * (1 - fresnel(middle, index))).cumsum(0)
    place = torch.rand(number, generator=generator, dtype=torch.float64) * enters[-1]
    return _turned(middle[torch.searchsorted(enters, place)].float(), generator)


def simulate(
    source: Callable[[int, float, torch.Generator], Tensor],
    photons: int,
    index: float,
    seed: int = 0,
    deepest: float = 16.0,
    longest: float = 600.0,
    progress: Progress | None = None,
) -> Table:
    """Send photons in at the origin and count where they scatter on the axis, which is the fluence there.

    Args:
        source: `pencil` or `lambert`.
        photons: how many.
        index: refractive index of the medium, above which is air.
        seed: of all that is drawn.
        deepest: depth up to which it is counted.
        longest: path at which photons are given up.
        progress: to tell how far it is.
    """
    generator = torch.Generator().manual_seed(seed)
    edges = torch.cat([torch.zeros(1), torch.logspace(-1, 0, 24) * 2, 2 * 1.07 ** torch.arange(1.0, 200)])
    edges = edges[: int((edges < longest).sum()) + 1].clamp(max=longest)
    slices, bins = round(deepest / SLICE), len(edges) - 1
    count = torch.zeros(slices * bins)
    told = progress.add_task(source.__name__, total=photons) if progress else None
    for begin in range(0, photons, BATCH):
        number = min(BATCH, photons - begin)
        for place, path in walk(source(number, index, generator), index, longest, generator):
            here = (place[:, :2].square().sum(1) < RADIUS**2) & (place[:, 2] < deepest)
            slice_ = (place[here, 2] / SLICE).long()
            bin_ = torch.bucketize(path[here], edges, right=True) - 1
            count += torch.bincount(slice_ * bins + bin_, minlength=slices * bins)
        if progress and told is not None:
            progress.advance(told, number)
    fluence = count.view(slices, bins) / (photons * SLICE)
    return Table((torch.arange(slices) + 0.5) * SLICE, edges, fluence)


def walk(
    direction: Tensor, index: float, longest: float, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, step by step, the places (N, 3) where photons scatter and how far each has come, (N,).

    Light that leaves, or has come further than `longest`, is no longer there.

    Args:
        direction: (N, 3) of photons that start at the origin.
        index, longest, generator: as in `simulate`.
    """
    place, path = torch.zeros_like(direction), torch.zeros(len(direction))
    while len(path):
        step = torch.empty(len(path)).exponential_(generator=generator)
        place, path = place + step.unsqueeze(1) * direction, path + step
        steep = -direction[:, 2].clamp(max=0)
        reflected = torch.rand(len(path), generator=generator) < fresnel(steep, index)
        alive = ((place[:, 2] >= 0) | reflected) & (path < longest)
        place, path = place[alive], path[alive]
        place[:, 2].abs_()
        yield place, path
        direction = _turned(2 * torch.rand(len(path), generator=generator) - 1, generator)


def _turned(cosine: Tensor, generator: torch.Generator) -> Tensor:
    """Directions (N, 3) of given cosines (N,) to the axis, around which they are drawn evenly."""
    angle = 2 * torch.pi * torch.rand(len(cosine), generator=generator)
    sine = (1 - cosine.square()).clamp(min=0).sqrt()
    return torch.stack([sine * angle.cos(), sine * angle.sin(), cosine], dim=1)
