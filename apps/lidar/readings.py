"""From counts to what a network reads, and from its outputs to depth and lifetime.

Shapes: B histograms, T bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from apps.lidar.model import OUTPUTS, Reading
from apps.lidar.scenes import TOLERANCE, Range, Ranges

MIDDLE, SPREAD = 7.6, 1.3
"""Mean and deviation of the logarithm of photons, about, of the usual range."""


@dataclass(frozen=True)
class Scale:
    """Ranges by which outputs and tissue are measured, and of the response, as a checkpoint keeps them."""

    depth: Range
    lifetime: Range
    scattering: Range
    absorption: Range
    response: Range
    photons: Range
    background: Range

    @classmethod
    def of(cls, ranges: Ranges) -> Scale:
        """Those from which scenes are drawn."""
        return cls(
            ranges.depth,
            ranges.lifetime,
            ranges.scattering,
            ranges.absorption,
            ranges.response,
            ranges.photons,
            ranges.background,
        )

    def target(self, depth: Tensor, lifetime: Tensor) -> Tensor:
        """Outputs (B, 2) in units of their ranges."""
        pairs = zip((depth, lifetime), (self.depth, self.lifetime), strict=True)
        return torch.stack([(value - low) / (high - low) for value, (low, high) in pairs], dim=1).float()

    def physical(self, output: Tensor) -> dict[str, Tensor]:
        """Depth (B,) in mm and lifetime (B,) in ns of outputs (B, 2)."""
        ends = dict(zip(OUTPUTS, (self.depth, self.lifetime), strict=True))
        return {name: low + (high - low) * output[:, i] for i, (name, (low, high)) in enumerate(ends.items())}

    def tissue(self, scattering: Tensor, absorption: Tensor) -> Tensor:
        """Known tissue (B, 2) in units of its ranges, or of how exactly it is said where that is coarser."""
        pairs = zip((scattering, absorption), (self.scattering, self.absorption), strict=True)
        return torch.stack(
            [(value - low) / max(high - low, TOLERANCE * high) for value, (low, high) in pairs], dim=1
        ).float()


def reading(counts: Tensor, response: Tensor, tissue: Tensor | None) -> Reading:
    """Prepare counts (B, T), the response (B, T) by bin, and tissue (B, 2) where it is known.

    A histogram without counts reads as zeros; what a network says of it means nothing.
    """
    total = counts.sum(1, keepdim=True)
    signal = torch.log1p(counts * (counts.shape[1] / total.clamp(min=1)))
    told = torch.full_like(total, float(tissue is not None))
    known = counts.new_zeros(len(counts), 2) if tissue is None else tissue.to(counts)
    level = (total.clamp(min=1).log() - MIDDLE) / SPREAD
    return Reading(signal, response * counts.shape[1], torch.cat([level, known, told], dim=1))
