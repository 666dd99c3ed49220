"""Scores that know more of a token than its vector."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collegium.context import Context, Id
from collegium.gates.base import Gate
from collegium.routing import Routing

By = Literal[Id, "time"]


class Conditioned(Gate):
    """z = W x + b(c), where c is one of the token's ids, or its time (M3ViT, RAPHAEL, AniMer+).

    Ids have a learned bias each; time has a linear map of sines and cosines. Costs D * E multiply-adds a
    token and what the condition adds, nothing for ids.

    Args:
        dim, num_experts: D and E.
        by: the Context field: "label", "task", "domain", "position", "segment" (ids below ``values``) or
            "time".
        values: how many ids there are.
        own_gate: each value has a gate W_c of its own instead of a bias (M3ViT's multi-gate); for ids only.
        use_token: False leaves the vector out, so that the condition alone decides.
        period: the longest period of the time's sines and cosines, over 2 pi.

    Raises:
        ValueError: an unknown field, no values, or options that exclude one another; at a call, an id outside
            0 to values - 1.

    >>> context = Context(task=torch.tensor([0, 1, 1]))
    >>> logits = Conditioned(16, 4, by="task", values=2, use_token=False)(torch.randn(3, 16), context, None)
    >>> torch.equal(logits[1], logits[2])
    True
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        by: By = "task",
        values: int = 8,
        own_gate: bool = False,
        use_token: bool = True,
        period: float = 1000.0,
    ) -> None:
        super().__init__(dim, num_experts)
        if by not in get_args(By):
            raise ValueError(f"Conditioned: by={by!r} is not one of {', '.join(get_args(By))}")
        if own_gate and (by == "time" or not use_token):
            raise ValueError("Conditioned: own_gate wants ids and the token: it is a gate for each value")
        if values < 1 or period <= 0:
            raise ValueError("Conditioned wants at least one value and a positive period")
        self.by, self.values, self.own_gate, self.period = by, values, own_gate, period
        self.needs = (by,)
        gates = values if own_gate else int(use_token)
        self.blind = gates == 0
        self.weight = nn.Parameter(torch.empty(gates, num_experts, dim)) if gates else None
        rows = 0 if own_gate else 2 * WAVES if by == "time" else values
        self.bias = nn.Parameter(torch.empty(rows, num_experts)) if rows else None
        if self.weight is not None:
            nn.init.uniform_(self.weight, -(dim**-0.5), dim**-0.5)
        if self.bias is not None:
            nn.init.normal_(self.bias, std=rows**-0.5 if by == "time" else 1.0)

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """The token's scores plus those of its condition."""
        condition: Tensor = getattr(context, self.by)
        if context.mask is not None:
            condition = condition.where(context.mask, 0)  # padding may hold anything
        if self.by != "time":
            self._check(condition)
        logits = x.new_zeros(len(x), self.num_experts)
        if self.own_gate:
            assert self.weight is not None
            every = torch.einsum("td,ved->tve", x, self.weight.to(x.dtype))
            return every[torch.arange(len(x), device=x.device), condition]
        if self.weight is not None:
            logits = logits + F.linear(x, self.weight[0].to(x.dtype))
        if self.bias is not None:
            bias = self.bias.to(x.dtype)
            logits = logits + (
                self._waves(condition.to(x.dtype)) @ bias if self.by == "time" else bias[condition]
            )
        return logits

    def _waves(self, time: Tensor) -> Tensor:
        """(T, 2 * WAVES) sines and cosines, of periods from 2 pi to ``period`` times that."""
        steps = torch.arange(WAVES, device=time.device, dtype=time.dtype) / (WAVES - 1)
        angle = time[:, None] * self.period**-steps
        return torch.cat([angle.sin(), angle.cos()], 1)

    def _check(self, ids: Tensor) -> None:
        if torch.compiler.is_compiling() or not ids.numel():
            return
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.values:
            raise ValueError(
                f"context.{self.by} holds {low if low < 0 else high}, and the gate knows 0 to "
                f"{self.values - 1}: raise values"
            )


WAVES = 16
"""Sines, and as many cosines, that tell a time."""
