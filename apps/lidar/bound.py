"""How well depth and lifetime can be told at all: a Bayesian Cramér-Rao bound, from the simulator.

For scenes theta drawn from a prior p, Poisson counts with Fisher information J(theta), and any field of
vectors h that vanishes with p on the border of the prior, every estimator of the parameter a, biased or not,
has

    mean squared error >= E[h_a]^2 / (E[h' J h] + E[(div(p h) / p)^2]).

With constant h it is van Trees' bound. The field here is h = w (J + K)^-1 e_a, with a window w that falls to
zero at the border, and K a share of the curvature that the prior would have were it normal: it follows the
scenes, and with much light the bound becomes the mean of the ordinary one. Each width of the window and each
share gives a valid bound, known as far as the scenes are many; of each the worse of two halves of the scenes
counts, as a few scenes can make most of a cost, and the best of some is told.
Source: van Trees (1968), Detection, Estimation, and Modulation Theory I, section 2.4; Weinstein and Weiss
(1988), A general class of lower bounds in parameter estimation.

Shapes: B scenes, T bins, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from apps.lidar.rig import Rig
from apps.lidar.scenes import TOLERANCE, Ranges, Scenes, as_given
from apps.lidar.simulate import expected

PARAMETERS = ("depth", "lifetime", "scattering", "absorption", "photons", "background")
"""What is unknown of a scene; the response is known."""
TARGETS, TISSUE = PARAMETERS[:2], PARAMETERS[2:4]
INNER, OUTER = 1e-3, 5e-3
"""Steps of the derivatives of light, and of information, in units of a parameter's range."""
WIDTHS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
SHARES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Prior:
    """Scenes, and between which values each of their parameters may lie, as far as one can know.

    Attributes:
        scenes: B of them.
        low, high: (B, P) ends of the prior, in the order of PARAMETERS.
        geometric: (P,) bool, where the prior is even on a logarithmic scale.
    """

    scenes: Scenes
    low: Tensor
    high: Tensor
    geometric: Tensor

    @classmethod
    def draw(cls, ranges: Ranges, number: int, known: bool, generator: torch.Generator) -> Prior:
        """Draw scenes; of `known` tissue somebody says scattering and absorption, see `scenes.as_given`."""
        scenes = ranges.draw(number, generator)
        said = [as_given(getattr(scenes, name), generator) for name in TISSUE]
        return cls.of(scenes, torch.stack(said, dim=1) if known else None, ranges)

    @classmethod
    def of(cls, scenes: Scenes, tissue: Tensor | None, ranges: Ranges) -> Prior:
        """What can be known of scenes from ranges, of whose tissue (B, 2) was said, or nothing."""
        number = len(scenes)
        ends = torch.tensor([getattr(ranges, name) for name in PARAMETERS], dtype=torch.float64)
        low, high = (end.expand(number, -1).clone() for end in ends.T)
        geometric = torch.tensor([name == "photons" for name in PARAMETERS])
        for name, given in zip(TISSUE, tissue.T, strict=True) if tissue is not None else ():
            place = PARAMETERS.index(name)
            low[:, place] = torch.maximum(low[:, place], given / (1 + TOLERANCE))
            high[:, place] = torch.minimum(high[:, place], given / (1 - TOLERANCE))
            geometric[place] = True
        return cls(scenes, low, high, geometric)

    @property
    def unit(self) -> Tensor:
        """Where the parameters lie between their ends, (B, P), evenly between 0 and 1."""
        value = torch.stack([getattr(self.scenes, name) for name in PARAMETERS], dim=1)
        ratio = (value / self.low).log() / (self.high / self.low).log()
        unit = torch.where(self.geometric, ratio, (value - self.low) / (self.high - self.low))
        return unit.masked_fill(self.low == self.high, 0.5)

    def __getitem__(self, rows: Tensor) -> Prior:
        """That of some scenes."""
        return Prior(self.scenes[rows], self.low[rows], self.high[rows], self.geometric)

    def outputs(self, unit: Tensor) -> Tensor:
        """Depth in mm and lifetime in ns, (..., B, 2), of parameters (..., B, P) as `unit` tells them."""
        low, high = self.low[:, : len(TARGETS)], self.high[:, : len(TARGETS)]
        return low + (high - low) * unit[..., : len(TARGETS)]

    def at(self, unit: Tensor) -> Scenes:
        """The same scenes with other parameters (B, P), as `unit` tells them."""
        line = self.low + (self.high - self.low) * unit
        value = torch.where(self.geometric, self.low * (self.high / self.low) ** unit, line)
        return self.scenes.having(**dict(zip(PARAMETERS, value.unbind(1), strict=True)))


def bound(prior: Prior, rig: Rig) -> dict[str, float]:
    """The least mean squared error of depth (mm^2) and lifetime (ns^2) over scenes drawn from a prior.

    Light is that of diffusion theory.
    """
    unit = prior.unit

    def light(at: Tensor) -> Tensor:
        return expected(prior.at(at), rig)

    here, beside = information(light, unit), []
    for place in range(len(PARAMETERS)):
        step = OUTER * torch.eye(len(PARAMETERS), dtype=unit.dtype)[place]
        below, above = (unit - step).clamp(0, 1), (unit + step).clamp(0, 1)
        beside.append(((above - below)[:, place], information(light, below), information(light, above)))
    gain, cost = _candidates(unit, here, beside)
    found = {}
    for target, name in enumerate(TARGETS):
        halves = [_ratio(gain[target][:, half::2], cost[target][:, half::2]) for half in range(2)]
        low, high = prior.low[0, target], prior.high[0, target]
        found[name] = float(torch.stack(halves).amin(0).amax()) * float(high - low) ** 2
    return found


def information(light: Callable[[Tensor], Tensor], unit: Tensor) -> Tensor:
    """Fisher information (B, P, P) of Poisson counts that expect light(unit) (B, T), at unit (B, P)."""
    level = light(unit)
    slopes = []
    for step in INNER * torch.eye(unit.shape[1], dtype=unit.dtype):
        slopes.append((light(unit + step) - light(unit - step)) / (2 * INNER))
    slope = torch.stack(slopes, dim=1) / level.clamp(min=1e-12).sqrt().unsqueeze(1)
    return slope @ slope.transpose(1, 2)


def _candidates(
    unit: Tensor, here: Tensor, beside: list[tuple[Tensor, Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """For every width and share (C of them), h_a and h' J h + (div(p h) / p)^2 of scenes, (targets, C, B)."""
    gains, costs = [], []
    for share in SHARES:
        curvature = 12 * share * torch.eye(unit.shape[1], dtype=unit.dtype)
        columns = torch.linalg.inv(here + curvature)[:, :, : len(TARGETS)]
        slopes = [
            (
                (torch.linalg.inv(upper + curvature) - torch.linalg.inv(lower + curvature))[:, place]
                / step[:, None]
            )
            for place, (step, lower, upper) in enumerate(beside)
        ]
        slope = torch.stack(slopes, dim=1)[:, :, : len(TARGETS)]
        for width in WIDTHS:
            window, rise = _window(unit, width)
            field = columns * window.unsqueeze(2)
            divergence = (slope * window.unsqueeze(2) + columns * rise.unsqueeze(2)).sum(1)
            spread = torch.einsum("bit,bij,bjt->bt", field, here, field) + divergence.square()
            gains.append(torch.stack([field[:, target, target] for target in range(len(TARGETS))]))
            costs.append(spread.T)
    return torch.stack(gains, dim=1), torch.stack(costs, dim=1)


def _window(unit: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """What falls to zero at the ends of each parameter's prior, (B, P), and its derivative there."""
    inside = torch.minimum(unit, 1 - unit) / width
    angle = torch.pi / 2 * inside.clamp(0, 1)
    rise = torch.pi / (2 * width) * torch.sin(2 * angle) * torch.where(unit < 0.5, 1.0, -1.0)
    return torch.sin(angle).square(), torch.where(inside < 1, rise, torch.zeros_like(rise))


def _ratio(gain: Tensor, cost: Tensor) -> Tensor:
    """E[h_a]^2 / E[cost] of candidates (C, B) -> (C,)."""
    ratio: Tensor = gain.mean(1).square() / cost.mean(1)
    return ratio
