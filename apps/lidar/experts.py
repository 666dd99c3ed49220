"""What an expert sees of a histogram, and what it makes of it.

Depth moves and broadens the rise of the signal, lifetime sets the slope of its tail; so one expert sees what
is early, one what is late, one all of it. Source: EvidenceMoE (arXiv 2505.21532), which tells of these three
experts; the windows are ours.

Legend: B histograms, T bins, S numbers known beside them, Z width of an embedding, O outputs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Window = Literal["early", "late", "global"]
WINDOWS: tuple[Window, ...] = ("early", "late", "global")
MARGIN, SOFTNESS = 6.0, 2.0
"""Bins beyond its peak up to which a signal is early, and over which the window opens or closes."""
SMOOTHED = 9
"""Bins over which counts are averaged to find the peak."""


def peak(signal: Tensor) -> Tensor:
    """Bin (B,) of the peak of signals (B, T), smoothed."""
    smooth = F.avg_pool1d(signal.unsqueeze(1), SMOOTHED, 1, SMOOTHED // 2, count_include_pad=False)
    return smooth.squeeze(1).argmax(1)


def opened(window: Window, signal: Tensor) -> Tensor:
    """How far a window is open at each bin of signals (B, T), between 0 and 1."""
    if window == "global":
        return torch.ones_like(signal)
    after = torch.arange(signal.shape[1], device=signal.device) - peak(signal).unsqueeze(1)
    return (
        torch.sigmoid((MARGIN - after) / SOFTNESS) if window == "early" else torch.sigmoid(after / SOFTNESS)
    )


class WindowExpert(nn.Module):
    """A perceptron on one window of a histogram, and on all that is known beside it.

    Args:
        window: which part it sees.
        bins: T.
        beside: S.
        hidden: width inside.
        depth: residual blocks.
        outputs: O.
        embedding: Z.
    """

    def __init__(
        self, window: Window, bins: int, beside: int, hidden: int, depth: int, outputs: int, embedding: int
    ) -> None:
        super().__init__()
        self.window, self.bins = window, bins
        self.enter = nn.Linear(bins + beside, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
            )
            for _ in range(depth)
        )
        self.leave = nn.Sequential(nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, outputs + embedding))

    def forward(self, x: Tensor) -> Tensor:
        """Read (B, T + S), the signal first. Returns outputs and embedding, (B, O + Z)."""
        signal, beside = x[:, : self.bins], x[:, self.bins :]
        inside = self.enter(torch.cat([signal * opened(self.window, signal), beside], dim=1))
        for block in self.blocks:
            inside = inside + block(inside)
        found: Tensor = self.leave(inside)
        return found
