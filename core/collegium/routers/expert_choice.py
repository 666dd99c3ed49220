"""Expert choice: the experts pick the tokens."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from collegium.context import Context
from collegium.gates import Gate, Linear
from collegium.routers.base import GatedRouter, check_share, softmax
from collegium.routing import Routing
from collegium.segments import Segments


class ExpertChoice(GatedRouter):
    """Each expert takes its ceil(k * n / E) most probable tokens of a segment (Zhou et al. 2022, 3.2).

    Probabilities are a softmax over experts, per token. Loads are equal by construction; a token may get no
    expert or many. Who is picked depends on the other tokens: not causal.

    A segment is what ``context.segment`` says, or else one index of the input's first dim (so that the images
    of a batch do not compete), or else the whole input. Costs the gate, a sort of every segment for every
    expert, and k experts a token on average.

    Args:
        dim, num_experts: D and E.
        k: experts a token on average.
        gate: (D, E) -> where the logits come from.
        noise: standard deviation of Gaussian noise on the logits, in training only; 1 / E in the released
            code of V-MoE.

    Raises:
        ValueError: k outside 1 to E, or a negative noise.

    >>> ExpertChoice(16, 8, k=2)(torch.randn(100, 16)).counts  # 2 * 100 / 8 for each expert
    25
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        k: int = 2,
        gate: Callable[[int, int], Gate] = Linear,
        noise: float = 0.0,
    ) -> None:
        super().__init__(dim, num_experts, gate)
        check_share("ExpertChoice", k, num_experts)
        if noise < 0:
            raise ValueError(f"ExpertChoice: noise={noise} must not be negative")
        self.k, self.noise = k, noise
        self.causal = False

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Pick tokens per expert and segment."""
        logits = self.gate(x, context, previous)
        if self.noise and self.training:
            logits = logits + self.noise * torch.randn_like(logits)
        probs = softmax(logits)
        segments = Segments.of(x, context)
        if context.segment is None and context.mask is None and len(x):
            return self._even(logits, probs, segments)
        selected = self._uneven(probs.detach(), segments)
        return Routing.from_selection(selected, probs, mask=context.mask, logits=logits, probs=probs)

    def _even(self, logits_TE: Tensor, probs_TE: Tensor, segments: Segments) -> Routing:
        """All segments equally long and unmasked: static shapes."""
        T, E = probs_TE.shape
        B, L = segments.index.shape
        capacity = min(math.ceil(self.k * L / E), L)
        picked = probs_TE.detach().view(B, L, E).topk(capacity, dim=1, sorted=False).indices
        start = L * torch.arange(B, device=picked.device)[:, None]
        token_ER = (picked.permute(2, 0, 1).sort(2).values + start).reshape(E, B * capacity)
        rows = B * capacity
        return Routing(
            token=token_ER.reshape(-1),
            expert=torch.arange(E, device=picked.device).repeat_interleave(rows),
            weight=probs_TE.T.gather(1, token_ER).reshape(-1),
            counts=rows,
            demand=torch.full((E,), rows, device=picked.device),
            num_tokens=T,
            num_experts=E,
            logits=logits_TE,
            probs=probs_TE,
        )

    def _uneven(self, probs_TE: Tensor, segments: Segments) -> Tensor:
        """(T, E) bool for segments of any length, masked tokens ranked behind all others."""
        capacity = (self.k * segments.real.sum(1) / self.num_experts).ceil()
        scores = segments.lay_out(probs_TE).masked_fill(~segments.real[:, :, None], -1.0)
        order = scores.sort(dim=1, descending=True, stable=True).indices
        rank = torch.arange(scores.shape[1], device=order.device)[None, :, None]
        taken = (rank < capacity[:, None, None]).expand(order.shape)
        return segments.take_back(torch.zeros_like(order, dtype=torch.bool).scatter(1, order, taken))
