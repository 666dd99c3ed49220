"""What kind of window this is: the frequency that rules it, and its regime. Labels, to see what experts tell,
and to route by.

Shapes: B windows, L context. Contexts (B, L) without gaps.
"""

from itertools import pairwise

import torch
from torch import Tensor

from apps.timeseries.model import window_scale

TRENDS, SWINGS = ("falling", "level", "rising"), ("calm", "wild")
REGIMES = tuple(f"{trend}, {swing}" for trend in TRENDS for swing in SWINGS)
SLOPE = 0.5
"""A window rises where its last fifth lies so many deviations above its mean."""


def bands(length: int) -> list[str]:
    """The frequency bands of windows of L rows: octaves of the period, in rows, the longest first."""
    edges = _edges(length)
    return [f"{high}-{low}" for high, low in pairwise(edges)]


def band(context: Tensor) -> Tensor:
    """The band, (B,) int64, that has the most of a window's variance, less its straight line."""
    length = context.shape[1]
    time = torch.linspace(-1, 1, length, device=context.device, dtype=context.dtype)
    centred = context - context.mean(1, keepdim=True)
    slope = (centred @ time / time.square().sum())[:, None]
    power = torch.fft.rfft(centred - slope * time, dim=1).abs().square()[:, 1:]
    period = length / torch.arange(1, power.shape[1] + 1, device=context.device)
    edges = _edges(length)
    inside = [(period > low) & (period <= high) for high, low in pairwise(edges)]
    inside[-1] |= period <= edges[-1]
    return torch.stack([(power * band).sum(1) for band in inside], 1).argmax(1)


def regime(context: Tensor, usual: Tensor) -> Tensor:
    """Which of `REGIMES` each window is in, (B,) int64.

    Args:
        context: (B, L).
        usual: (B,) the deviation that is usual for the window's series; a wild window has more.
    """
    mean, scale = window_scale(context, torch.ones_like(context, dtype=torch.bool))
    end = context[:, -max(1, context.shape[1] // 5) :].mean(1, keepdim=True)
    place = ((end - mean) / scale).squeeze(1)
    trend = 1 + (place > SLOPE).long() - (place < -SLOPE).long()
    return 2 * trend + (scale.squeeze(1) > usual).long()


def usual_deviation(context: Tensor, channel: Tensor) -> Tensor:
    """The median deviation of the windows of the same series, (B,), for contexts of the series (B,)."""
    scale = window_scale(context, torch.ones_like(context, dtype=torch.bool))[1].squeeze(1)
    usual = torch.empty_like(scale)
    for one in set(channel.tolist()):
        usual[channel == one] = scale[channel == one].median()
    return usual


def _edges(length: int) -> list[int]:
    """Periods L, and L / 2, L / 4, ... as long as they are above 3, and 2."""
    edges = [length]
    while (length := length // 2) > 3:
        edges.append(length)
    return [*edges, 2]
