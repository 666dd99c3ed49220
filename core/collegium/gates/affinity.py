"""Scores that near tokens share.

After Nguyen et al. 2025, "Improving Routing in Sparse Mixture of Experts with Graph of Tokens": its abstract
gives the idea, z~ = S z with S a similarity or the attention; the form here is ours.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from collegium.context import Context
from collegium.gates.base import Gate, Linear
from collegium.routing import Routing
from collegium.segments import Segments


class Shared(Gate):
    """z~_t = sum_j S_tj z_j over the tokens j of t's own segment, rows of S summing to one.

    Args:
        dim, num_experts: D and E.
        gate: (D, E) -> the gate whose scores z are shared.
        look_ahead: let later tokens of the sequence have a say; then the gate is not causal.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        gate: Callable[[int, int], Gate] = Linear,
        look_ahead: bool = False,
    ) -> None:
        super().__init__(dim, num_experts)
        self.gate = gate(dim, num_experts)
        self.look_ahead = look_ahead
        self.needs = self.gate.needs
        self.causal = self.gate.causal and not look_ahead

    def allowed(self, segments: Segments) -> Tensor:
        """(B, L, L) bool, whose scores each token may hear; always its own."""
        L = segments.real.shape[1]
        own = torch.eye(L, dtype=torch.bool, device=segments.real.device)
        others = segments.real[:, None, :]
        if not self.look_ahead:
            others = others & torch.ones_like(own).tril()
        return own | others

    def share(self, share_BLL: Tensor, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """(T, E) scores mixed by rows that sum to one."""
        segments = Segments.of(x, context)
        logits = segments.lay_out(self.gate(x, context, previous))
        return segments.take_back(share_BLL @ logits)


class Similar(Shared):
    """S = softmax(x W x^T / tau): tokens that are alike are routed alike.

    Costs D * (D + E) + L * (D + E) multiply-adds a token, for a sequence of L.

    Args:
        dim, num_experts, gate, look_ahead: see Shared.
        temperature: tau, in units of sqrt(D).

    Raises:
        ValueError: a temperature not above zero.

    >>> Similar(16, 4)(torch.randn(10, 16), Context(), None).shape
    torch.Size([10, 4])
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        gate: Callable[[int, int], Gate] = Linear,
        look_ahead: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(dim, num_experts, gate, look_ahead)
        if temperature <= 0:
            raise ValueError(f"Similar: temperature={temperature} must be positive")
        self.temperature = temperature
        self.weight = nn.Parameter(torch.eye(dim))

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """Scores shared by similarity."""
        segments = Segments.of(x, context)
        token = segments.lay_out(x)
        likeness = (token @ self.weight.to(x.dtype)) @ token.transpose(1, 2) / self.dim**0.5
        likeness = (likeness / self.temperature).masked_fill(~self.allowed(segments), -torch.inf)
        return self.share(likeness.softmax(-1), x, context, previous)


class Attended(Shared):
    """S = context.affinity, such as the layer's attention averaged over heads: who attends is routed alike.

    Rows are brought to sum one over the tokens that may be heard. Costs L * E multiply-adds a token beside
    the gate's, for a sequence of L.

    Args:
        dim, num_experts, gate, look_ahead: see Shared.

    >>> context = Context(affinity=torch.rand(2, 5, 5)).flatten(torch.Size((2, 5)))
    >>> Attended(16, 4)(torch.randn(10, 16), context, None).shape
    torch.Size([10, 4])
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        gate: Callable[[int, int], Gate] = Linear,
        look_ahead: bool = False,
    ) -> None:
        super().__init__(dim, num_experts, gate, look_ahead)
        self.blind = self.gate.blind
        self.needs = ("affinity", *(name for name in self.gate.needs if name != "affinity"))

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """Scores shared by the affinity given."""
        assert context.affinity is not None
        if context.segment is not None:
            raise ValueError("context.affinity goes by the input's own sequences: leave context.segment out")
        if not len(x):
            nobody: Tensor = self.gate(x, context, previous)
            return nobody  # whose affinity has no width
        segments = Segments.of(x, context)
        if context.affinity.shape[-1] != segments.index.shape[1]:
            raise ValueError(
                f"context.affinity has {context.affinity.shape[-1]} entries a token, but a sequence (one "
                f"index of the input's first dim) has {segments.index.shape[1]} tokens: give one for each"
            )
        affinity = segments.lay_out(context.affinity.to(x.dtype)).masked_fill(~self.allowed(segments), 0.0)
        total = affinity.sum(-1, keepdim=True)
        alone = torch.eye(affinity.shape[-1], dtype=x.dtype, device=x.device)
        share = torch.where(total > 0, affinity / total.where(total > 0, 1.0), alone)
        return self.share(share, x, context, previous)
