"""Balance losses: pure functions of recorded routings, a mean over layers and calls.

``routings`` is one Routing, several, or what ``collegium.record`` collected. Masked tokens have no share.
"""

import torch
from torch import Tensor

from collegium.balance.collect import Routings, each, logits_of, named, probs_of
from collegium.balance.counts import GlobalCounts
from collegium.routing import Routing


def load_balance(routings: Routings, counts: GlobalCounts | None = None) -> Tensor:
    """E * sum_e f_e P_e: 1 at uniform routing, E at collapse (Fedus et al. 2022, eq. 4-6; Time-MoE, eq. 10).

    f_e is the fraction of assignments that chose e (no gradient), P_e the mean probability of e.

    Args:
        routings: what was recorded.
        counts: take f_e from the global batch, as far as ``counts`` has observed it, instead of from this
            micro-batch (Qiu et al. 2025): a micro-batch of one domain may then go to that domain's experts.
    """
    losses = []
    for name, routing in named(routings):
        demand = routing.demand if counts is None else counts.demand(name, routing)
        probs = probs_of(routing)
        fraction = demand.to(probs.dtype) / demand.sum().clamp(min=1)
        mean = probs.sum(0) / max(probs.shape[0], 1)
        losses.append(routing.num_experts * (fraction * mean).sum())
    return torch.stack(losses).mean()


def z_loss(routings: Routings) -> Tensor:
    """Mean over tokens of logsumexp(logits)^2: keeps logits small (Zoph et al. 2022, eq. 5)."""
    return torch.stack([_mean(logits_of(r).logsumexp(-1).square()) for r in each(routings)]).mean()


def entropy(routings: Routings) -> Tensor:
    """Mean over tokens of the entropy of their probabilities, in nats (Huang et al. 2024, eq. 6)."""
    return torch.stack([_mean(_nats(probs_of(r))) for r in each(routings)]).mean()


def importance_cv(routings: Routings) -> Tensor:
    """CV^2 of importance, the summed weights of each expert (Shazeer et al. 2017, eq. 6-7)."""
    return torch.stack([_cv_squared(_importance(r)) for r in each(routings)]).mean()


def load_cv(routings: Routings) -> Tensor:
    """CV^2 of load, the expected tokens of each expert (Shazeer et al. 2017, appendix A).

    A noisy router supplies a smooth load while it trains; for others the load is a count, without gradient.
    """
    return torch.stack([_cv_squared(_load(r)) for r in each(routings)]).mean()


def _importance(routing: Routing) -> Tensor:
    return routing.weight.new_zeros(routing.num_experts).index_add(0, routing.expert, routing.weight)


def _load(routing: Routing) -> Tensor:
    smooth = routing.extras.get("load")
    if smooth is None:
        return routing.demand.to(routing.weight.dtype)
    return (smooth if routing.mask is None else smooth[routing.mask]).sum(0)


def _cv_squared(x: Tensor) -> Tensor:
    return x.var(correction=0) / (x.mean().square() + 1e-10)


def _nats(probs: Tensor) -> Tensor:
    # the gradient of p log p is infinite at p = 0, which a sure router's softmax reaches
    return -(probs * probs.clamp(min=torch.finfo(probs.dtype).tiny).log()).sum(-1)


def _mean(x: Tensor) -> Tensor:
    return x.sum() / max(x.numel(), 1)
