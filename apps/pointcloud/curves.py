"""Space-filling curves: cells of a grid in an order in which neighbours stay near.

Legend: T cells.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BITS = 16
"""Of a coordinate: a grid has up to 65,536 cells along each axis."""


def z_order(cell: Tensor) -> Tensor:
    """(T, 3) cells to (T,) int64 places on the Z-order curve (Morton 1966): bits of x, y and z in turn."""
    place = torch.zeros_like(cell[:, 0])
    for bit in range(BITS):
        for axis in range(3):
            place |= (cell[:, axis] >> bit & 1) << (3 * bit + 2 - axis)
    return place


def hilbert(cell: Tensor) -> Tensor:
    """(T, 3) cells to (T,) int64 places on the Hilbert curve, on which each step is to an adjoining cell.

    Source: Skilling 2004, "Programming the Hilbert curve", AIP Conference Proceedings 707.
    """
    x = list(cell.unbind(1))
    for bit in range(BITS - 1, 0, -1):
        below = (1 << bit) - 1
        for axis in range(3):
            is_set = (x[axis] >> bit & 1).bool()
            swap = (x[0] ^ x[axis]) & below
            flipped = x[0] ^ below
            x[axis] = torch.where(is_set, x[axis], x[axis] ^ swap)
            x[0] = torch.where(is_set, flipped, x[0] ^ swap) if axis else torch.where(is_set, flipped, x[0])
    x[1] = x[1] ^ x[0]
    x[2] = x[2] ^ x[1]
    last = torch.zeros_like(x[0])
    for bit in range(BITS - 1, 0, -1):
        last = torch.where((x[2] >> bit & 1).bool(), last ^ ((1 << bit) - 1), last)
    return z_order(torch.stack([part ^ last for part in x], 1))


def turned(curve: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A curve with its axes in another order, so that other cells come to be neighbours."""
    return lambda cell: curve(cell[:, [1, 2, 0]])


CURVES = (z_order, turned(z_order), hilbert, turned(hilbert))
"""The orders that layers take in turn (Wu et al. 2024, "Point Transformer V3", section 4.2)."""


def ordered(place: Tensor, cloud: Tensor) -> Tensor:
    """(T,) the cells of one cloud after the other, each in order of their places."""
    return torch.argsort(cloud << (3 * BITS) | place)
