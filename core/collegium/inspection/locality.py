"""Local routing consistency: whether neighbours in a sequence keep to the same experts (Liang et al. 2025).

It decides whether a device that holds few experts at once can serve the model.
"""

from dataclasses import replace

import torch
from torch import Tensor

from collegium.context import Context
from collegium.inspection.given import single
from collegium.routing import Routing
from collegium.segments import Segments


def segment_routing_best_performance(routing: Routing, m: int, length: int | None = None) -> float:
    """SRP: how well one fixed set of experts a segment stands in for the routing of its tokens.

    A segment is any m neighbours. An expert is on for a segment if at least theta of its tokens chose it; SRP
    is the best F1, over theta, of "on" against what each token chose, over all segments and experts. It is 1
    where neighbours choose alike, and tends to 2r / (1 + r), r = K / E, for independent uniform choices as m
    grows.

    Args:
        routing: of B sequences of L tokens.
        m: tokens in a segment.
        length: L, where ``routing.context`` does not tell how tokens lie in sequences.

    Raises:
        ValueError: no segment of m tokens, or nothing tells how tokens lie in sequences.
        TypeError: not one routing, as all that ``record`` collects.
    """
    routing = single(routing, "segment_routing_best_performance")
    used = _uses(routing, m, length).long()
    segments = used.flatten().bincount(minlength=m + 1).double()  # (expert, segment) pairs by use
    hits = _at_least(segments * torch.arange(m + 1, dtype=segments.dtype))
    on = m * _at_least(segments)
    return float((2 * hits / (on + hits[0]).clamp(min=1)).max())


def segment_cache_hit_rate(routing: Routing, cache: int, m: int, length: int | None = None) -> float:
    """SCH: the best hit rate of a cache that is filled anew for each segment.

    The cache holds the experts that the m tokens of a segment use most. The rate grows with ``cache``, to 1
    where all experts that a segment uses are held. The paper's advice is twice the experts of one token.

    Args:
        routing: of B sequences of L tokens.
        cache: experts it holds.
        m: tokens in a segment, any m neighbours.
        length: L, where ``routing.context`` does not tell how tokens lie in sequences.

    Raises:
        ValueError: a cache below 1 or above E, no segment of m tokens, or nothing tells how tokens lie in
            sequences.
        TypeError: not one routing, as all that ``record`` collects.
    """
    routing = single(routing, "segment_cache_hit_rate")
    if not 1 <= cache <= routing.num_experts:
        raise ValueError(f"cache={cache} must be between 1 and {routing.num_experts} experts")
    used = _uses(routing, m, length)
    return float(used.topk(cache, dim=1).values.sum() / used.sum().clamp(min=1))


def _uses(routing: Routing, m: int, length: int | None) -> Tensor:
    """(S, E) how many tokens of each of S segments chose each expert; masked tokens are in no segment."""
    segments = Segments.of(routing.token.new_empty(routing.num_tokens), _sequences(routing, length))
    L = segments.real.shape[1]
    if not 1 <= m <= L:
        raise ValueError(f"m={m} must be between 1 and {L}, the tokens of a sequence")
    whole = _sliding(segments.real[..., None], m)[..., 0] == m
    if not bool(whole.any()):
        raise ValueError(f"no {m} neighbours are all unmasked: choose a smaller m")
    return _sliding(segments.lay_out(routing.selected()), m)[whole]


def _sequences(routing: Routing, length: int | None) -> Context:
    context = routing.context or Context()
    if length is not None:
        if length < 1 or routing.num_tokens % length:
            raise ValueError(f"length={length} does not divide {routing.num_tokens} tokens into sequences")
        context = Context(shape=(routing.num_tokens // length, length))
    elif context.shape is None and context.segment is None:
        raise ValueError("give length=: nothing tells how the tokens of this routing lie in sequences")
    return replace(context, mask=routing.mask)


def _sliding(flags: Tensor, m: int) -> Tensor:
    """(B, L - m + 1, E) float64 sums of m neighbours of bools (B, L, E)."""
    total = torch.nn.functional.pad(flags.cpu().double().cumsum(1), (0, 0, 1, 0))
    return total[:, m:] - total[:, :-m]


def _at_least(value: Tensor) -> Tensor:
    """Entry theta is the sum of those from theta on."""
    return value.flip(0).cumsum(0).flip(0)
