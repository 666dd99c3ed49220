"""Expert choice: the experts pick the tokens."""

import math

import torch
from torch import Tensor

from collegium.context import Context
from collegium.routers.base import Gate, Router, check_share, softmax
from collegium.routing import Routing


class ExpertChoice(Router):
    """Each expert takes its ceil(k * n / E) most probable tokens of a segment (Zhou et al. 2022, 3.2).

    Probabilities are a softmax over experts, per token. Loads are equal by construction; a token may get no
    expert or many. Who is picked depends on the other tokens: not causal.

    A segment is what ``context.segment`` says, or else one index of the input's first dim (so that the images
    of a batch do not compete), or else the whole input.

    Args:
        dim, num_experts: D and E.
        k: experts a token on average.

    Raises:
        ValueError: k outside 1 to E.

    >>> ExpertChoice(16, 8, k=2)(torch.randn(100, 16)).counts  # 2 * 100 / 8 for each expert
    25
    """

    def __init__(self, dim: int, num_experts: int, k: int = 2) -> None:
        super().__init__(dim, num_experts)
        check_share("ExpertChoice", k, num_experts)
        self.k = k
        self.causal = False
        self.gate = Gate(dim, num_experts)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Pick tokens per expert and segment."""
        logits = self.gate(x)
        probs = softmax(logits)
        T = x.shape[0]
        shape = context.shape or (T,)
        segments = shape[0] if len(shape) > 1 else 1
        if context.segment is None and context.mask is None and T:
            return self._even(logits, probs, segments)
        segment = context.segment
        if segment is None:
            segment = torch.arange(segments, device=x.device).repeat_interleave(T // max(segments, 1))
        selected = self._uneven(probs.detach(), segment, context.mask)
        return Routing.from_selection(selected, probs, mask=context.mask, logits=logits, probs=probs)

    def _even(self, logits_TE: Tensor, probs_TE: Tensor, segments: int) -> Routing:
        """All segments equally long and unmasked: static shapes."""
        T, E = probs_TE.shape
        length = T // segments
        capacity = min(math.ceil(self.k * length / E), length)
        picked = probs_TE.detach().view(segments, length, E).topk(capacity, dim=1).indices
        start = length * torch.arange(segments, device=picked.device)[:, None, None]
        token_ER = (picked + start).permute(2, 0, 1).reshape(E, segments * capacity)
        rows = segments * capacity
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

    def _uneven(self, probs_TE: Tensor, segment_T: Tensor, mask_T: Tensor | None) -> Tensor:
        """(T, E) bool for segments of any length, masked tokens ranked behind all others."""
        if mask_T is None:
            mask_T = torch.ones_like(segment_T, dtype=torch.bool)
        ids, segment_T, sizes = segment_T.unique(return_inverse=True, return_counts=True)
        real = torch.zeros_like(ids).scatter_add_(0, segment_T, mask_T.to(ids.dtype))
        capacity = (self.k * real / self.num_experts).ceil().long()
        scores = probs_TE.masked_fill(~mask_T[:, None], -1.0)
        order = scores.sort(dim=0, descending=True, stable=True).indices
        order = order.gather(0, segment_T[order].sort(dim=0, stable=True).indices)
        within = segment_T.sort().values
        rank = torch.arange(len(within), device=within.device) - (sizes.cumsum(0) - sizes)[within]
        taken = (rank < capacity[within])[:, None].expand(order.shape)
        return torch.zeros_like(order, dtype=torch.bool).scatter(0, order, taken)
