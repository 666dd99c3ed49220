"""Linear experts that tell two classes apart."""

from typing import Any

import torch
from collegium.experts import Experts
from collegium.experts.base import rows_of
from torch import Tensor, nn
from torch.nn import functional as F


class Logistic(Experts):
    """Logistic regressions: (A, D) to the probabilities of two classes (A, 2), sigmoid(w_k x + b_k) the last.

    Args:
        dim: D.
        num_experts: E.
    """

    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(num_experts)
        self.dim = dim
        self.weight = nn.Parameter(torch.empty(num_experts, dim).uniform_(-(dim**-0.5), dim**-0.5))
        self.bias = nn.Parameter(torch.zeros(num_experts))

    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Each expert on its rows."""
        rows = torch.tensor(rows_of(counts, self.num_experts), device=x.device)
        expert = torch.arange(self.num_experts, device=x.device).repeat_interleave(rows)
        chance = ((x * self.weight[expert]).sum(1) + self.bias[expert]).sigmoid()
        return torch.stack([1 - chance, chance], 1)

    def logits(self, x: Tensor) -> Tensor:
        """w_k x + b_k of every expert: rows (N, D) to (N, E)."""
        return F.linear(x, self.weight, self.bias)
