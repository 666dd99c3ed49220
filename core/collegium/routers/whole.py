"""One decision for a whole sequence or sample."""

from collections.abc import Callable
from dataclasses import fields, replace

from torch import Tensor

from collegium.context import Context
from collegium.routers.base import Router
from collegium.routers.topk import TopK
from collegium.routers.wrapper import Wrapper
from collegium.routing import Routing
from collegium.segments import Segments


class WholeSegment(Wrapper):
    """Routes the mean token of a segment, and sends all its tokens there (Kudugunta et al. 2021).

    A segment is what ``context.segment`` says, or else one index of the input's first dim (a sequence, an
    image, a sample), or else the whole input. Masked tokens have no share in the mean. Every token of a
    segment knows of every other: not causal. Costs the inner router once a segment.

    Args:
        dim, num_experts: D and E.
        router: (D, E) -> the router of the means. One that needs context gets that of each segment's first
            token; one that looks back gets the means of the layer before.

    Raises:
        ValueError: an inner router with a capacity, which would count segments and not rows, or with a need
            of ``context.affinity``, which is between tokens.

    >>> import torch
    >>> routing = WholeSegment(16, 4)(torch.randn(6, 16), Context(segment=torch.tensor([0, 0, 1, 1, 1, 0])))
    >>> routing.dense_weight()[:2].unique(dim=0).shape[0]
    1
    """

    def __init__(self, dim: int, num_experts: int, router: Callable[[int, int], Router] = TopK) -> None:
        super().__init__(dim, num_experts, router(dim, num_experts))
        if any(getattr(part, "capacity_factor", None) is not None for part in self.router.modules()):
            raise ValueError("WholeSegment routes segments, of which a capacity knows no size: leave it out")
        if "affinity" in self.needs:
            raise ValueError("WholeSegment routes segments, which have no affinity: choose another gate")
        self.causal = False

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Route the means, and hand the decision to the tokens."""
        segments = Segments.of(x, context)
        first = segments.index.gather(1, segments.real.int().argmax(1, keepdim=True))[:, 0]
        known = _of_tokens(context, first)
        if context.mask is not None:
            known = replace(known, mask=segments.real.any(1))  # those of masked tokens alone take no part
        decided = self.decide(_means(x, segments), known, _of_means(previous, segments))
        owner = segments.place // max(segments.index.shape[1], 1)
        table, E = decided.dense_weight()[owner], self.num_experts
        if decided.position is not None:
            index = decided.expert[decided.position][owner]
            routing = Routing.from_topk(index, table.gather(1, index), E, mask=context.mask)
        else:
            routing = Routing.from_selection(decided.selected()[owner], table, mask=context.mask)
        return replace(
            routing,
            logits=None if decided.logits is None else decided.logits[owner],
            probs=None if decided.probs is None else decided.probs[owner],
            state=None if decided.state is None else decided.state[owner],
            extras={name: value[owner] for name, value in decided.extras.items()},
            fixed=decided.fixed,
        )


def _means(value: Tensor, segments: Segments) -> Tensor:
    """(B, R) the mean of the real tokens of each segment, of values (T, R)."""
    real = segments.real[:, :, None]
    return segments.lay_out(value).where(real, 0.0).sum(1) / real.sum(1).clamp(min=1)


def _of_means(previous: Routing | None, segments: Segments) -> Routing | None:
    """What routers that look back read of the layer before, of segments in the place of tokens."""
    if previous is None:
        return None
    return replace(
        previous,
        logits=None if previous.logits is None else _means(previous.logits, segments),
        state=None if previous.state is None else _means(previous.state, segments),
    )


def _of_tokens(context: Context, index: Tensor) -> Context:
    """What is known of some tokens, which now are tokens of their own."""
    known = {field.name: getattr(context, field.name) for field in fields(context)}
    picked = {
        name: value[index]
        for name, value in known.items()
        if isinstance(value, Tensor) and name not in ("mask", "segment")
    }
    return Context(**picked, shape=(len(index),))
