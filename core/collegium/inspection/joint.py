"""Which expert serves which label: the table that specialisation is read from."""

import torch
from torch import Tensor

from collegium.inspection.given import single
from collegium.routing import Routing

NEGLIGIBLE = 1e-12  # nats: an entropy below is that of one label, but for rounding


def mass(routing: Routing) -> Tensor:
    """(A,) float64 what each assignment counts for: 1, or its weight where every token runs every expert.

    Where all run, only the weights tell the experts apart; those of several gates are averaged.
    """
    tokens = routing.num_tokens if routing.mask is None else int(routing.mask.sum())
    weight = routing.weight.detach().cpu().double().abs()
    if routing.token.shape[0] < tokens * routing.num_experts:
        return weight.new_ones(routing.token.shape[0])
    return weight if weight.ndim == 1 else weight.mean(1)


def served(routing: Routing) -> Tensor:
    """(T, E) float64 mass of each token at each expert, zero where it does not go; see ``mass``."""
    routing = single(routing, "served")
    table = torch.zeros(routing.num_tokens * routing.num_experts, dtype=torch.float64)
    place = (routing.token * routing.num_experts + routing.expert).cpu()
    return table.index_add(0, place, mass(routing)).view(routing.num_tokens, routing.num_experts)


def expert_by_label(routing: Routing, label: Tensor, labels: int | None = None) -> Tensor:
    """(E, L) float64 mass of the assignments of each label to each expert; see ``mass``.

    Args:
        routing: of T tokens.
        label: (T,) int64, at least 0; an hour, a channel, a domain, a class.
        labels: L; by default as many as the largest label asks for.

    Raises:
        ValueError: label is not (T,) of non-negative integers below L.
        TypeError: not one routing, as all that ``record`` collects.
    """
    routing = single(routing, "expert_by_label")
    L = check_label(routing, label, labels)
    pair = routing.expert.cpu() * L + label.cpu()[routing.token.cpu()]
    table = torch.zeros(routing.num_experts * L, dtype=torch.float64)
    return table.index_add(0, pair, mass(routing)).view(routing.num_experts, L)


def check_label(routing: Routing, label: Tensor, labels: int | None = None) -> int:
    """L, or a ValueError that says what a label must be."""
    if label.shape != (routing.num_tokens,) or label.is_floating_point() or bool((label < 0).any()):
        raise ValueError(f"label must be ({routing.num_tokens},) integers of at least 0")
    most = int(label.max()) + 1 if label.numel() else 1
    if labels is not None and most > labels:
        raise ValueError(f"label holds {most - 1}, but labels={labels}: they count from 0")
    return labels or most


def told(joint: Tensor) -> Tensor:
    """(...) share of the label's entropy that the expert tells, of tables (..., E, L); 0 for one label."""
    joint = joint / joint.sum((-2, -1), keepdim=True).clamp(min=torch.finfo(joint.dtype).tiny)
    entropy = torch.special.entr
    h_label = entropy(joint.sum(-2)).sum(-1)
    shared = entropy(joint.sum(-1)).sum(-1) + h_label - entropy(joint).sum((-2, -1))
    return torch.where(h_label > NEGLIGIBLE, shared / h_label, 0.0).clamp(0, 1)
