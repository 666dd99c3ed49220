"""What is looked at: targets in tissue, and the ranges that they are drawn from.

Shapes: B scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

Range = tuple[float, float]


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes, each field (B,) float64.

    Attributes:
        depth: of the target, mm.
        lifetime: of its fluorescence, ns.
        scattering: reduced scattering coefficient of the tissue, 1/mm.
        absorption: absorption coefficient, 1/mm.
        photons: expected number of photons of the target in the window.
        response: full width at half maximum of the instrument response, ns; it is Gaussian.
        background: expected share of all photons that come at any time.
        second_lifetime: ns.
        second_share: of the fluorescence that decays by the second lifetime; 0 for one lifetime alone.
    """

    depth: Tensor
    lifetime: Tensor
    scattering: Tensor
    absorption: Tensor
    photons: Tensor
    response: Tensor
    background: Tensor
    second_lifetime: Tensor
    second_share: Tensor

    def __len__(self) -> int:
        return len(self.depth)

    def __getitem__(self, rows: Tensor | slice) -> Scenes:
        """Some of the scenes."""
        return Scenes(*(getattr(self, f.name)[rows] for f in fields(self)))

    def having(self, **changes: Tensor) -> Scenes:
        """The same scenes with other values of some fields."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Ranges:
    """Ranges from which scenes are drawn evenly, photons on a logarithmic scale. Units as in `Scenes`."""

    depth: Range = (1.0, 10.0)
    lifetime: Range = (0.2, 1.5)
    scattering: Range = (0.5, 1.5)
    absorption: Range = (0.002, 0.05)
    photons: Range = (200.0, 20_000.0)
    response: Range = (0.1, 0.3)
    background: Range = (0.0, 0.05)
    second_lifetime: Range = (0.2, 1.5)
    second_share: Range = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Refuse a range that ends before it begins, and photons that a logarithm cannot take."""
        for f in fields(self):
            low, high = getattr(self, f.name)
            least = 0.0 if f.name in ("background", "second_share") else 1e-6
            if not least <= low <= high:
                raise ValueError(f"ranges.{f.name}={[low, high]} must rise from {least:g} or more")
        for name in ("depth", "lifetime", "photons"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(
                    f"ranges.{name}={[low, high]} is a single value: errors are told over ranges"
                )

    def draw(self, number: int, generator: torch.Generator) -> Scenes:
        """Draw scenes, independently of one another."""
        unit = torch.rand(len(fields(self)), number, generator=generator, dtype=torch.float64)
        drawn = {}
        for share, f in zip(unit, fields(self), strict=True):
            low, high = getattr(self, f.name)
            drawn[f.name] = low * (high / low) ** share if f.name == "photons" else low + (high - low) * share
        return Scenes(**drawn)


TOLERANCE = 0.1
"""Known tissue is given within this share of its value."""


def as_given(truth: Tensor, generator: torch.Generator) -> Tensor:
    """What somebody says who knows a coefficient (B,) within TOLERANCE, evenly."""
    share = 2 * torch.rand(truth.shape, generator=generator, dtype=truth.dtype) - 1
    return truth * (1 + TOLERANCE * share)
