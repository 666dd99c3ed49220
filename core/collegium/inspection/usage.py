"""How experts were used, from recorded routings."""

import math

import torch
from torch import Tensor

from collegium.balance import losses
from collegium.balance.collect import probs_of
from collegium.inspection.given import Collected, collected, single
from collegium.inspection.joint import expert_by_label, told
from collegium.routing import Routing


def load(routings: Collected) -> dict[str, Tensor]:
    """Layer -> (E,) float64 share of all assignments that chose each expert, before drops; sums to 1.

    Raises:
        TypeError: not what ``record`` collects, as a single routing.
    """
    return {
        name: demand / demand.sum().clamp(min=1)
        for name, calls in collected(routings, "load").items()
        if calls
        for demand in [torch.stack([routing.demand for routing in calls]).sum(0).cpu().double()]
    }


def max_violation(load_E: Tensor, fixed: int = 0) -> float:
    """max_e load_e / mean load - 1: 0 at even load and at none (Wang et al. 2024, eq. 4, MaxVio).

    Args:
        load_E: (E,) loads or shares of them.
        fixed: how many of the first experts to leave out, as every token has them: ``routing.fixed``. Theirs
            would be the largest load whatever the router does.
    """
    chosen = load_E[fixed:]
    return float(chosen.max() / chosen.mean()) - 1 if chosen.any() else 0.0


def entropy(routing: Routing) -> float:
    """Mean over tokens of the entropy of their probabilities, over log E: 1 undecided, 0 sure.

    Raises:
        TypeError: not one routing, as all that ``record`` collects.
        ValueError: a routing without probabilities.
    """
    routing = single(routing, "entropy")
    nats = float(losses.entropy(routing).detach())
    return nats / math.log(max(probs_of(routing).shape[-1], 2))


def dead_experts(load_E: Tensor, below: float = 0.01, fixed: int = 0) -> list[int]:
    """Experts with less than ``below`` times the even share of the load; none where there is no load.

    Args:
        load_E: (E,) loads or shares of them.
        below: a fraction of the even share.
        fixed: as in ``max_violation``; the even share is then that of the others.
    """
    chosen = load_E[fixed:]
    dead = chosen < below * chosen.mean()
    return [fixed + int(expert) for expert in dead.nonzero()]


def mutual_information(routing: Routing, label: Tensor) -> float:
    """I(expert; label) / H(label) over assignments: 1 when the expert tells the label.

    An assignment counts once, or by its weight where every token runs every expert. Few tokens inflate it:
    ``specialisation`` gives an interval and the level of chance.

    Args:
        routing: of T tokens.
        label: (T,) int64, at least 0; an hour, a channel, a domain, a class.

    Returns:
        A number in [0, 1]; 0 where there is one label only.

    Raises:
        ValueError: label is not (T,) of non-negative integers.
        TypeError: not one routing, as all that ``record`` collects.
    """
    return float(told(expert_by_label(single(routing, "mutual_information"), label)))
