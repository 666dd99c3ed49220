"""Rotary positions: pairs of columns turn by angles that grow with position (Su et al. 2021, section 3.2)."""

import torch
from torch import Tensor


def frequencies(pairs: int) -> Tensor:
    """Angles (pairs,) a position."""
    angle: Tensor = 1e4 ** (-torch.arange(pairs) / pairs)
    return angle


def turned(x: Tensor, frequency: Tensor, begin: int = 0) -> Tensor:
    """Queries or keys (B, h, N, d) of positions from `begin` on; columns behind the pairs stay."""
    position = torch.arange(begin, begin + x.shape[2], device=x.device)
    angle = position[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b, rest = x.tensor_split((cos.shape[1], 2 * cos.shape[1]), -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], -1)
