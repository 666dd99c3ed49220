"""Scores by what the experts have shown of late."""

import torch
from collegium import Context, Routing
from collegium.gates import Gate, Linear
from torch import Tensor, nn

MEASURES = 2
"""What a record tells at each speed: the mean log-probability of the label, the share of right answers."""


class Trust(Gate):
    """z_e = W x + s . r_e: every expert by its own record, and a linear map of everything that is known.

    The records are the last entries of a token (see `Watching`). W begins at zero and s at ``trust`` for the
    shares of right answers, so that the experts of late success lead from the start.

    Args:
        dim, num_experts: D and E.
        memories: speeds at which records forget, as `Watching` has them.
        trust: how far a share of right answers of 1 lifts a score over one of 0 in the beginning.
    """

    def __init__(self, dim: int, num_experts: int, memories: int = 2, trust: float = 3.0) -> None:
        super().__init__(dim, num_experts)
        self.measures = MEASURES * memories
        self.weight = nn.Parameter(torch.zeros(num_experts, dim))
        shares = torch.arange(self.measures) % MEASURES == 1
        self.record_weight = nn.Parameter(torch.where(shares, trust, 0.0))

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """Tokens (T, D) to (T, E)."""
        records = x[:, -self.num_experts * self.measures :].view(len(x), self.num_experts, self.measures)
        return x @ self.weight.to(x.dtype).T + records @ self.record_weight.to(x.dtype)


class Even(Gate):
    """The same score for every expert: an ensemble without a router."""

    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(dim, num_experts)
        self.blind = True

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """Zeros (T, E)."""
        return x.new_zeros(len(x), self.num_experts)


class Frozen(Linear):
    """A linear gate that stays as it was drawn."""

    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(dim, num_experts)
        self.requires_grad_(False)
