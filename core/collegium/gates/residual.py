"""Scores that remember those of the layer before."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collegium.context import Context
from collegium.gates.base import Gate, Linear
from collegium.routing import Routing


class Residual(Gate):
    """z_l = gate(x) + V z_(l-1): the pathway so far has a say (Jin et al. 2024, MoE++, eq. 6).

    The model hands the routing of the layer before to the layer: ``moe(x, context, previous)``; in the first
    layer there is none, and the gate stands alone. Costs E * E multiply-adds a token beside the gate's.

    Args:
        dim, num_experts: D and E.
        gate: (D, E) -> the gate of this layer.

    Raises:
        ValueError: at a call, the layer before has another number of experts or no scores.

    >>> gate = Residual(16, 4)
    >>> gate(torch.randn(10, 16), Context(), None).shape
    torch.Size([10, 4])
    """

    def __init__(self, dim: int, num_experts: int, gate: Callable[[int, int], Gate] = Linear) -> None:
        super().__init__(dim, num_experts)
        self.gate = gate(dim, num_experts)
        self.needs, self.causal, self.blind = self.gate.needs, self.gate.causal, self.gate.blind
        self.carry = nn.Parameter(torch.empty(num_experts, num_experts))
        nn.init.uniform_(self.carry, -(num_experts**-0.5), num_experts**-0.5)

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """The gate's scores plus what the last ones became."""
        logits: Tensor = self.gate(x, context, previous)
        # without a layer before, zeros keep the parameter in the graph: distributed training waits for it
        last = torch.zeros_like(logits) if previous is None else previous.logits
        if last is None or last.shape != logits.shape:
            raise ValueError(
                f"Residual needs the scores {tuple(logits.shape)} of the layer before, which has "
                f"{'none' if last is None else tuple(last.shape)}: use as many experts and gates in both"
            )
        last = last.where(last.isfinite(), 0.0)  # experts that were closed to a token have scores of -inf
        return logits + F.linear(last.to(x.dtype), self.carry.to(x.dtype))
