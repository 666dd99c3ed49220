"""Balance among experts that are not alike: cheap ones, slow ones."""

from collections.abc import Sequence

import torch
from torch import Tensor

from collegium.balance.collect import Routings, each
from collegium.balance.losses import cv_squared, importance, shares, smooth_load
from collegium.routing import Routing


def heterogeneous(routings: Routings, cheap: int, tau: float = 0.75) -> Tensor:
    """E * sum_e eta_e f_e P_e with eta = tau for the last ``cheap`` experts (Jin et al. 2024, MoE++, eq. 7).

    With tau below 1 the experts that cost nothing (zero, copy, constant) may be used more than the others,
    the more the smaller tau is. At tau = 1 it is ``load_balance``.

    Args:
        routings: what was recorded.
        cheap: how many of the last experts are cheap.
        tau: their weight, above 0.

    Raises:
        ValueError: a tau not above zero, or more cheap experts than there are.
    """
    losses = []
    for routing in each(routings):
        E = routing.num_experts - routing.fixed
        if tau <= 0 or not 0 <= cheap <= E:
            raise ValueError(
                f"heterogeneous wants tau above 0 and cheap from 0 to {E}, not {tau} and {cheap}"
            )
        fraction, mean = shares(routing)
        eta = torch.ones_like(mean)
        eta[E - cheap :] = tau
        losses.append(E * (eta * fraction * mean).sum())
    return torch.stack(losses).mean()


def latency_cv(routings: Routings, latency: Sequence[float]) -> Tensor:
    """CV^2 of latency-weighted importance, plus CV^2 of latency-weighted load (ShiftAddViT, You et al. 2023).

    Zero where each expert's load is inversely proportional to its latency, so that all are done at once. Pair
    it with a noisy router, whose load has a gradient.

    Args:
        routings: what was recorded.
        latency: a positive number for each expert, those that every token has included, in any unit.

    Raises:
        ValueError: not one positive number for each expert.
    """
    return torch.stack([_latency_cv(routing, latency) for routing in each(routings)]).mean()


def _latency_cv(routing: Routing, latency: Sequence[float]) -> Tensor:
    if len(latency) != routing.num_experts or min(latency) <= 0:
        raise ValueError(f"latency_cv wants {routing.num_experts} positive latencies, not {list(latency)}")
    slow = routing.weight.new_tensor(latency)[routing.fixed :]
    return cv_squared(importance(routing) * slow) + cv_squared(smooth_load(routing) * slow)
