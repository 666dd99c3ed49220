"""Estimates without a network, as a laboratory makes them: fits of the forward model, and moments.

Shapes: B histograms, T bins, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from apps.lidar.bound import INNER, PARAMETERS, Prior
from apps.lidar.experts import peak
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import expected

STEPS, STARTS = 20, (0.1, 0.3, 0.5, 0.7, 0.9)
"""Steps of the fit, and where in their ranges depth and lifetime begin."""


def fitted(counts: Tensor, prior: Prior, rig: Rig) -> Tensor:
    """The most likely depth in mm and lifetime in ns, (B, 2); see `likeliest`."""
    return prior.outputs(likeliest(counts, prior, rig))


def likeliest(counts: Tensor, prior: Prior, rig: Rig) -> Tensor:
    """The most likely parameters (B, P), as shares of their priors, of counts (B, T) that are Poisson.

    All parameters are fitted at once, by Fisher scoring with a damping that falls where a step helps and
    rises where not, inside the ends of the prior; the prior's scenes give nothing but the response and the
    second lifetime. It begins at the likeliest of a grid.
    """
    counts = counts.double()

    def light(unit: Tensor) -> Tensor:
        return expected(prior.at(unit), rig).clamp(min=1e-9)

    def surprise(level: Tensor) -> Tensor:
        return (level - counts * level.log()).sum(1)

    unit = _start(counts, prior, rig, light, surprise)
    level = light(unit)
    lost, damping = surprise(level), torch.full((len(counts), 1, 1), 1e-2, dtype=torch.float64)
    eye = torch.eye(len(PARAMETERS), dtype=torch.float64)
    for _ in range(STEPS):
        slope = torch.stack([(light(unit + INNER * step) - level) / INNER for step in eye], dim=2)
        weighed = slope / level.unsqueeze(2)
        information = weighed.transpose(1, 2) @ slope
        gradient = (weighed * (counts - level).unsqueeze(2)).sum(1)
        scale = information.diagonal(dim1=1, dim2=2).clamp(min=1e-6)
        step = torch.linalg.solve(information + damping * torch.diag_embed(scale), gradient)
        tried = (unit + step).clamp(0, 1)
        level_there = light(tried)
        lost_there = surprise(level_there)
        better = lost_there < lost
        unit = torch.where(better[:, None], tried, unit)
        level = torch.where(better[:, None], level_there, level)
        lost = torch.where(better, lost_there, lost)
        damping = torch.where(better[:, None, None], damping / 3, damping * 5).clamp(1e-7, 1e4)
    return unit


def as_bright(counts: Tensor, prior: Prior, rig: Rig) -> Tensor:
    """The middle of the prior, (B, P), with as many photons as counts (B, T) tell, inside its ends or not."""
    unit = torch.full_like(prior.unit, 0.5)
    place = PARAMETERS.index("photons")
    low, high = prior.low[:, place], prior.high[:, place]
    photons = counts.sum(1).clamp(min=1) / rig.detector.gain
    unit[:, place] = (photons / low).log() / (high / low).log()
    return unit


def moments(counts: Tensor, prior: Prior, ranges: Ranges, rig: Rig) -> Tensor:
    """Depth in mm from the centre of mass, and lifetime in ns from two gates, (B, 2), of counts (B, T).

    Rapid lifetime determination compares the counts of two gates behind the peak (Ballew and Demas 1989):
    equal ones of width d give d / log(first / second). The mean arrival less that lifetime is the time of
    travel, of which diffusion theory tells the depth, in the tissue in the middle of the prior.
    """
    counts, clock = counts.double(), rig.clock
    before = clock.centres < -0.5
    floor = counts[:, before].mean(1, keepdim=True) if before.any() else 0.0
    clean = counts - floor
    begin = peak(counts).unsqueeze(1) + 8
    gate = ((clock.bins - begin) // 3).clamp(min=1)
    place = (torch.arange(clock.bins) - begin).div(gate, rounding_mode="floor")
    first, second = ((clean * (place == i)).sum(1) for i in range(2))
    ratio = (first.clamp(min=1) / second.clamp(min=0.5)).clamp(min=1.05)
    lifetime = (gate.squeeze(1) * clock.width / ratio.log()).clamp(*ranges.lifetime)
    arrival = (clean @ clock.centres) / clean.sum(1).clamp(min=1)
    depth = torch.linspace(*ranges.depth, 91, dtype=torch.float64)
    middle = prior.at(torch.full_like(prior.unit, 0.5))
    small = torch.tensor([0.0, 1e-3], dtype=torch.float64)
    shape = (len(counts), len(depth))
    scattering, absorption = (
        getattr(middle, name).unsqueeze(1).expand(shape).flatten() for name in ("scattering", "absorption")
    )
    light = rig.transport("diffusion")(depth.expand(shape).flatten(), scattering, absorption, small)
    travel = (-(light[:, 1] / light[:, 0]).angle() / 1e-3).view(shape)
    nearest = (travel - (arrival - lifetime).unsqueeze(1)).abs().argmin(1)
    return torch.stack([depth[nearest], lifetime], dim=1)


def _start(
    counts: Tensor,
    prior: Prior,
    rig: Rig,
    light: Callable[[Tensor], Tensor],
    surprise: Callable[[Tensor], Tensor],
) -> Tensor:
    """The likeliest place of a grid of depths and lifetimes, (B, P), with as many photons as there are."""
    unit = as_bright(counts, prior, rig).clamp(0, 1)
    best, least = unit, torch.full((len(counts),), torch.inf, dtype=torch.float64)
    for depth in STARTS:
        for lifetime in STARTS:
            here = unit.clone()
            here[:, 0], here[:, 1] = depth, lifetime
            lost = surprise(light(here))
            best = torch.where((lost < least)[:, None], here, best)
            least = torch.minimum(lost, least)
    return best
