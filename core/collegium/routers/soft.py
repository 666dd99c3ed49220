"""Soft slots: tokens are mixed, not chosen."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collegium.context import Context
from collegium.routers.base import Router
from collegium.routing import Routing
from collegium.segments import Segments
from collegium.slots import SlotRouting


class SoftSlots(Router):
    """Every expert runs S slots, means of a segment's tokens (Puigcerver et al. 2024, Soft MoE, 2.1).

    With scores z = s * norm(X) norm(Phi) for (token, expert, slot): a slot is the mean of the tokens by
    softmax(z) over tokens, a token's output the mean of the slots' outputs by softmax(z) over slots. All is
    smooth, and load is even by construction. Every token has a say in every slot: not causal.

    A segment is what ``context.segment`` says, or else one index of the input's first dim, or else the whole
    input. Costs D * E * S multiply-adds a token three times, and E * S expert rows a segment, whatever its
    length.

    Args:
        dim, num_experts: D and E.
        slots: S, for each expert.
        scale: s at the start.

    Raises:
        ValueError: no slots.

    >>> routing = SoftSlots(16, 4, slots=2)(torch.randn(10, 16))
    >>> routing.into.shape, round(float(routing.into[:, 0, 0].sum()), 4)
    (torch.Size([10, 4, 2]), 1.0)
    """

    def __init__(self, dim: int, num_experts: int, slots: int = 1, scale: float = 1.0) -> None:
        super().__init__(dim, num_experts)
        if slots < 1:
            raise ValueError("SoftSlots wants at least one slot")
        self.slots = slots
        self.causal = False
        self.keys = nn.Parameter(torch.empty(num_experts * slots, dim))
        self.scale = nn.Parameter(torch.tensor(scale))
        nn.init.normal_(self.keys, std=dim**-0.5)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> SlotRouting:
        """Mix tokens into slots and slots into tokens."""
        keys = self.scale.to(x.dtype) * F.normalize(self.keys.to(x.dtype), dim=-1)
        logits = F.linear(F.normalize(x, dim=-1), keys)
        segments = Segments.of(x, context)
        real = segments.real[:, :, None]
        by_segment = segments.lay_out(logits).masked_fill(~real, -torch.inf)
        # a segment of masked tokens alone has nothing to mix: a softmax over nothing is NaN
        by_segment = by_segment.where(real.any(1, keepdim=True), 0.0)
        into = segments.take_back(by_segment.softmax(1) * real)
        out_of = segments.take_back(segments.lay_out(logits.softmax(-1)) * real)
        shape = (len(x), self.num_experts, self.slots)
        return SlotRouting(into.view(shape), out_of.view(shape), segments, context.mask)

    def extra_repr(self) -> str:
        """Sizes and slots."""
        return f"{super().extra_repr()}, slots={self.slots}"
