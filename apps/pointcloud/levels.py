"""Cells of several clouds at one resolution: who lies beside whom, and in which patches they attend.

Legend: T cells, B clouds, P patches, K cells of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from apps.pointcloud.curves import BITS, CURVES, ordered

AROUND = torch.cartesian_prod(*[torch.arange(-1, 2)] * 3)
"""(27, 3) the cells around a cell, itself in the middle."""


@dataclass
class Level:
    """Cells in the order of their clouds.

    cell: (T, 3) int64, not negative; cloud: (T,) int64, ascending; size: K.
    """

    cell: Tensor
    cloud: Tensor
    size: int
    _patches: dict[int, Tensor] = field(default_factory=dict)
    _beside: Tensor | None = None

    def patches(self, curve: int) -> Tensor:
        """(P, K) cells that attend to each other, runs along a curve in one cloud; -1 where it has ended."""
        curve %= len(CURVES)
        if curve not in self._patches:
            order = ordered(CURVES[curve](self.cell), self.cloud)
            self._patches[curve] = runs(order, torch.bincount(self.cloud), self.size)
        return self._patches[curve]

    def beside(self) -> Tensor:
        """(27, T) the cells around each; T where there is none."""
        if self._beside is None:
            keys, order = torch.sort(key(self.cell, self.cloud))
            around = self.cell + AROUND.to(self.cell.device)[:, None]
            wanted = key(around, self.cloud.expand(len(AROUND), -1))
            found = torch.searchsorted(keys, wanted.flatten()).clamp(max=len(keys) - 1).view_as(wanted)
            there = (keys[found] == wanted) & (around >= 0).all(-1)
            self._beside = torch.where(there, order[found], len(keys))
        return self._beside

    def coarser(self) -> tuple[Level, Tensor]:
        """The level of cells twice as wide, and of each cell the number of the one that holds it (T,)."""
        half = self.cell >> 1
        keys, of = torch.unique(key(half, self.cloud), return_inverse=True)
        one = torch.empty_like(keys).scatter_(0, of, torch.arange(len(of), device=of.device))
        return Level(half[one], self.cloud[one], self.size), of


def key(cell: Tensor, cloud: Tensor) -> Tensor:
    """(..., 3) cells and (...) clouds as one int64 each, clouds first."""
    x, y, z = cell.clamp(min=0).unbind(-1)
    return ((cloud << BITS | x) << BITS | y) << BITS | z


def runs(order: Tensor, counts: Tensor, size: int) -> Tensor:
    """(P, K) runs of an order that holds `counts` (B,) members of each cloud, none over two clouds.

    The last run of a cloud is filled with -1.
    """
    patches = (counts + size - 1) // size
    slots = order.new_full((int(patches.sum()) * size,), -1)
    begin = (patches.cumsum(0) - patches) * size - (counts.cumsum(0) - counts)
    place = torch.arange(len(order), device=order.device) + torch.repeat_interleave(begin, counts)
    slots[place] = order
    return slots.view(-1, size)
