"""One decision for a whole sequence or sample."""

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from collegium.context import Context
from collegium.routers.base import Router
from collegium.routers.topk import TopK
from collegium.routing import Routing
from collegium.segments import Segments


class WholeSegment(Router):
    """Routes the mean token of a segment, and sends all its tokens there (Kudugunta et al. 2021).

    A segment is what ``context.segment`` says, or else one index of the input's first dim (a sequence, an
    image, a sample), or else the whole input. Masked tokens have no share in the mean. Every token of a
    segment knows of every other: not causal. Costs the inner router once a segment.

    Args:
        dim, num_experts: D and E.
        router: (D, E) -> the router of the means; one that needs context gets that of each segment's first
            token.

    >>> routing = WholeSegment(16, 4)(torch.randn(6, 16), Context(segment=torch.tensor([0, 0, 1, 1, 1, 0])))
    >>> routing.dense_weight()[:2].unique(dim=0).shape[0]
    1
    """

    def __init__(self, dim: int, num_experts: int, router: Callable[[int, int], Router] = TopK) -> None:
        super().__init__(dim, num_experts)
        self.router = router(dim, num_experts)
        self.needs = self.router.needs
        self.causal = False

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Route the means, and hand the decision to the tokens."""
        segments = Segments.of(x, context)
        real = segments.real[:, :, None]
        total = (segments.lay_out(x) * real).sum(1)
        mean = total / real.sum(1).clamp(min=1)
        first = segments.index.gather(1, segments.real.int().argmax(1, keepdim=True))[:, 0]
        known = _of_tokens(context, first)
        if context.mask is not None:
            known = replace(known, mask=segments.real.any(1))  # those of masked tokens alone take no part
        decided = self.router(mean, known, None)
        if not isinstance(decided, Routing):
            raise ValueError(
                f"WholeSegment needs a router that assigns tokens, not {type(self.router).__name__}"
            )
        owner = torch.empty_like(segments.place)
        owner = segments.place // max(segments.index.shape[1], 1)
        table, selected = decided.dense_weight()[owner], decided.selected()[owner]
        scores = {name: getattr(decided, name) for name in ("logits", "probs")}
        by_token = {name: None if value is None else value[owner] for name, value in scores.items()}
        if decided.position is not None:
            index = decided.expert[decided.position][owner]
            return Routing.from_topk(
                index, table.gather(1, index), self.num_experts, mask=context.mask, **by_token
            )
        return Routing.from_selection(selected, table, mask=context.mask, **by_token)

    def anneal(self, progress: float) -> None:
        """Pass on to the inner router."""
        self.router.anneal(progress)


def _of_tokens(context: Context, index: Tensor) -> Context:
    """What is known of some tokens, which now are tokens of their own."""
    known = {field.name: getattr(context, field.name) for field in fields(context)}
    picked = {
        name: value[index]
        for name, value in known.items()
        if isinstance(value, Tensor) and name not in ("mask", "segment")
    }
    return Context(**picked, shape=(len(index),))
