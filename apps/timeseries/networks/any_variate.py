"""Attention over all tokens of a group of series, of any number and in any order (Moirai, Woo et al. 2024).

Shapes: B rows (a series each), N new tokens, M earlier ones, K = M + N, h heads, d width of a head,
G groups, V series of the largest group.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apps.timeseries.networks.rotary import frequencies, turned


class Memory(NamedTuple):
    """What attention keeps of earlier tokens: keys and values (B, h, M, d) of each layer, and real (B, M)."""

    layers: list[tuple[Tensor, Tensor]]
    real: Tensor

    def repeat(self, times: int) -> Memory:
        """Each row so many times in a row."""
        layers = [(k.repeat_interleave(times, 0), v.repeat_interleave(times, 0)) for k, v in self.layers]
        return Memory(layers, self.real.repeat_interleave(times, 0))


class Neighbours:
    """Lays the rows of each group (B,) side by side; without groups each row is a group by itself."""

    def __init__(self, group: Tensor) -> None:
        number, order = group.sort(stable=True)
        number = (number.diff(prepend=number[:1]) != 0).cumsum(0)
        sizes = number.bincount()
        first = (sizes.cumsum(0) - sizes)[number]
        self.group, self.slot = torch.empty_like(group), torch.empty_like(group)
        self.group[order] = number
        self.slot[order] = torch.arange(len(group), device=group.device) - first
        self.groups, self.width = len(sizes), int(sizes.max())

    def together(self, x: Tensor) -> Tensor:
        """(B, ...) to (G, V, ...), zeros where a group has no further row."""
        if self.width == 1:
            return x[:, None]  # in the order of the rows, and without a copy
        laid = x.new_zeros(self.groups, self.width, *x.shape[1:])
        laid[self.group, self.slot] = x
        return laid

    def apart(self, x: Tensor) -> Tensor:
        """(G, V, ...) to (B, ...)."""
        if self.width == 1:
            return x[:, 0]
        return x[self.group, self.slot]


class Sight:
    """Who sees whom: a token sees the real tokens of its group that are not later than it, and itself.

    Args:
        neighbours: of the rows.
        real: (B, K) False at tokens without a single observed point.
        new: N, the tokens at the end of real that look.
    """

    def __init__(self, neighbours: Neighbours, real: Tensor, new: int) -> None:
        self.neighbours, width, keys = neighbours, neighbours.width, real.shape[1]
        variate = torch.arange(width, device=real.device)
        time = torch.arange(keys, device=real.device)
        looking = time[keys - new :]
        same = (variate[:, None] == variate).view(width, 1, width, 1)
        itself = same & (looking[:, None] == time).view(1, new, 1, keys)
        past = (looking[:, None] >= time).view(1, new, 1, keys)
        # also what is masked sees itself, as a softmax over nothing is NaN
        seen = (neighbours.together(real)[:, None, None] & past) | itself
        self.same = same.expand(width, new, width, keys).reshape(width * new, width * keys)
        self.seen = seen.view(-1, 1, width * new, width * keys)

    def biases(self, same_other: Tensor) -> Tensor:
        """(G, h, V * N, V * K): the bias (2, h) of own and other series, and -inf for what is not seen."""
        same, other = same_other[:, :, None, None]
        return torch.where(self.same, same, other).masked_fill(~self.seen, -torch.inf)


class AnyVariateAttention(nn.Module):
    """Causal attention that tells its own series from others by two learned biases a head, and by no number.

    Queries and keys are normalised, and half of their columns are turned by rotary positions (Moirai, section
    3.1). Rows of other groups are not seen.
    """

    frequency: Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.query_norm, self.key_norm = nn.RMSNorm(dim // heads), nn.RMSNorm(dim // heads)
        self.same_other = nn.Parameter(torch.zeros(2, heads))
        self.register_buffer("frequency", frequencies(dim // heads // 4), persistent=False)

    def forward(
        self, x: Tensor, sight: Sight, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, N, D) to (B, N, D), and keys and values (B, h, K, d) of all tokens so far."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        begin = 0 if past is None else past[0].shape[2]
        q, k = self.query_norm(q), self.key_norm(k)
        q, k = (turned(part, self.frequency, begin) for part in (q, k))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        rows = sight.neighbours
        queries, keys, values = (rows.together(part).transpose(1, 2).flatten(2, 3) for part in (q, k, v))
        bias = sight.biases(self.same_other)
        y = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        y = rows.apart(torch.unflatten(y, 2, (rows.width, -1)).transpose(1, 2))
        mixed: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return mixed, (k, v)
