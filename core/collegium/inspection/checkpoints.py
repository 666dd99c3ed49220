"""How far routing moved from one checkpoint to another."""

from typing import NamedTuple

import torch
from torch import Tensor

from collegium.inspection.given import single
from collegium.routing import Routing


class Drift(NamedTuple):
    """Both 0 where nothing moved.

    Attributes:
        experts: mean over tokens of 1 - |A and B| / |A or B| of the experts chosen before and after, the
            Jaccard distance: 1 where none is kept.
        probs: mean over tokens of the Jensen-Shannon divergence of the probabilities, in nats: at most log 2.
            None where a router has no probabilities.
    """

    experts: float
    probs: float | None


def drift(before: Routing, after: Routing) -> Drift:
    """How far the routing of the same tokens moved between two checkpoints (Lin 1991 for the divergence).

    Tokens without an expert on both sides have no share in ``experts``, masked ones none in ``probs``.

    Raises:
        ValueError: other numbers of tokens, experts or probabilities.
        TypeError: not one routing each, as all that ``record`` collects.
    """
    before, after = single(before, "drift"), single(after, "drift")
    sizes = [(r.num_tokens, r.num_experts) for r in (before, after)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"drift compares the same tokens and experts, not (T, E) = {sizes[0]} and {sizes[1]}"
        )
    a, b = before.selected(), after.selected()
    both, either = (a & b).sum(1).cpu(), (a | b).sum(1).cpu()
    distance = 1 - both.double() / either.clamp(min=1)
    moved = float(distance[either > 0].sum()) / max(int((either > 0).sum()), 1)
    if before.probs is None or after.probs is None:
        return Drift(moved, None)
    if before.probs.shape != after.probs.shape:
        shapes = f"{tuple(before.probs.shape)} and {tuple(after.probs.shape)}"
        raise ValueError(f"drift compares probabilities of one shape, not {shapes}")
    divergence = _jensen_shannon(*(probs.detach().cpu().double() for probs in (before.probs, after.probs)))
    for routing in (before, after):
        if routing.mask is not None:
            mask = routing.mask.cpu().view(-1, *[1] * (divergence.ndim - 1))
            divergence = divergence.where(mask, float("nan"))
    return Drift(moved, float(divergence.nanmean().nan_to_num(0.0)))


def _jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """(...) divergence in nats of distributions (..., E)."""
    entropy = torch.special.entr
    apart: Tensor = (entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).sum(-1)
    return apart.clamp(min=0)
