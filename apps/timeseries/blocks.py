"""Blocks of neighbouring windows, the units of standard errors and intervals: near windows share their
targets."""

import numpy as np
from torch import Tensor

from apps.common.compare.units import unit_means


def block_count(start: Tensor, horizon: int) -> int:
    """How many blocks, each at least a horizon long, the starts (W,) of windows hold; two at the least."""
    return max(2, (int(start.max() - start.min()) + 1) // horizon)


def blocks(error: Tensor, start: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and number of windows of each block of neighbouring starts, over all series, NaN left out.

    error, start: (W,). Returns two arrays (count,); the mean of a block without a window is zero.
    """
    begin, span = int(start.min()), int(start.max() - start.min()) + 1
    block = ((start - begin) * count // span).numpy()
    known = ~error.isnan().numpy()
    return unit_means(error.double().numpy()[known], block[known], count)
