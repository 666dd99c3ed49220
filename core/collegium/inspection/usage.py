"""How experts were used, from recorded routings."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from collegium.balance import losses
from collegium.balance.collect import probs_of
from collegium.routing import Routing, count


def load(routings: Mapping[str, Sequence[Routing]]) -> dict[str, Tensor]:
    """Layer -> (E,) share of all assignments that chose each expert, before drops; sums to 1."""
    return {
        name: demand / demand.sum().clamp(min=1)
        for name, calls in routings.items()
        if calls
        for demand in [torch.stack([routing.demand for routing in calls]).sum(0).double()]
    }


def max_violation(load_E: Tensor) -> float:
    """max_e load_e / mean load - 1: 0 at even load (Wang et al. 2024, eq. 4, MaxVio)."""
    return float(load_E.max() / load_E.mean()) - 1


def entropy(routing: Routing) -> float:
    """Mean over tokens of the entropy of their probabilities, over log E: 1 undecided, 0 sure."""
    nats = float(losses.entropy(routing).detach())
    return nats / math.log(max(probs_of(routing).shape[-1], 2))


def mutual_information(routing: Routing, label: Tensor) -> float:
    """I(expert; label) / H(label) over assignments, each of unit mass: 1 when the expert tells the label.

    Args:
        routing: of T tokens.
        label: (T,) int64, at least 0; an hour, a channel, a domain, a class.

    Returns:
        A number in [0, 1]; 0 where there is one label only.

    Raises:
        ValueError: label is not (T,) of non-negative integers.
    """
    if label.shape != (routing.num_tokens,) or label.is_floating_point() or bool((label < 0).any()):
        raise ValueError(f"label must be ({routing.num_tokens},) integers of at least 0")
    labels = int(label.max()) + 1 if label.numel() else 1
    pair = routing.expert * labels + label.to(routing.expert.device)[routing.token]
    joint = count(pair, routing.num_experts * labels).view(routing.num_experts, labels).double()
    joint = joint / joint.sum().clamp(min=1)
    h_expert, h_label, h_joint = (
        float(torch.special.entr(p).sum()) for p in (joint.sum(1), joint.sum(0), joint)
    )
    if h_label == 0:
        return 0.0
    return min(max((h_expert + h_label - h_joint) / h_label, 0.0), 1.0)
