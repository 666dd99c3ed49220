"""Scores by what the experts have shown of late."""

import torch
from collegium import Context, Routing
from collegium.gates import Gate, Linear
from torch import Tensor, nn

MEASURES = 2
"""What a record tells at each speed: the mean log-probability of the label, the share of right answers."""


class Trust(Gate):
    """z_e = w_e x + b_e + s . r_e: every expert by its own record, and by what is in the row.

    A token is a row of features x and behind it the records r_e (see `Watching`). All experts' records have
    the same weights s: where a linear map read all of them for each expert, good marks of one could count
    against another, and after a drift the router could be left trusting the worst for good. All begins at
    zero but for the shares of right answers, so that the experts of late success lead from the start.

    Args:
        dim, num_experts: D, features and records, and E.
        memories: speeds at which records forget, as `Watching` has them.
        trust: how far a share of right answers of 1 lifts a score over one of 0 in the beginning.
    """

    def __init__(self, dim: int, num_experts: int, memories: int = 2, trust: float = 3.0) -> None:
        super().__init__(dim, num_experts)
        self.measures = MEASURES * memories
        self.features = nn.Linear(dim - num_experts * self.measures, num_experts)
        nn.init.zeros_(self.features.weight)
        nn.init.zeros_(self.features.bias)
        shares = torch.arange(self.measures) % MEASURES == 1
        self.record_weight = nn.Parameter(torch.where(shares, trust, 0.0))

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """Tokens (T, D) to (T, E)."""
        row, records = x.split([self.features.in_features, self.num_experts * self.measures], dim=1)
        by_record = records.view(len(x), self.num_experts, self.measures) @ self.record_weight.to(x.dtype)
        scores: Tensor = self.features(row.to(self.features.weight.dtype)).to(x.dtype) + by_record
        return scores


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
