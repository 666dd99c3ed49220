"""The expert that every token visits."""

import torch
from torch import Tensor, nn


class Shared(nn.Module):
    """An always-on expert, optionally scaled by sigmoid(w . x) per token (Time-MoE, eq. 6-8).

    Args:
        module: (T, D) -> (T, O).
        dim: D.
        gate: scale by the sigmoid.
    """

    def __init__(self, module: nn.Module, dim: int, gate: bool = True) -> None:
        super().__init__()
        self.module = module
        self.gate = nn.Linear(dim, 1, bias=False) if gate else None

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (T, D) to (T, O)."""
        y: Tensor = self.module(x)
        return y if self.gate is None else torch.sigmoid(self.gate(x)) * y
