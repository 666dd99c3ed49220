"""Balance losses: pure functions of recorded routings, a mean over layers and calls.

``routings`` is one Routing, several, or what ``collegium.record`` collected. Masked tokens have no share, nor
have experts that every token has without a choice (``routing.fixed``): below, E are the others.
"""

import torch
from torch import Tensor

from collegium.balance.collect import Routings, each, logits_of, named, probs_of
from collegium.balance.counts import GlobalCounts
from collegium.routing import Routing


def load_balance(routings: Routings, counts: GlobalCounts | None = None) -> Tensor:
    """E * sum_e f_e P_e: 1 at uniform routing, E at collapse (Fedus et al. 2022, eq. 4-6; Time-MoE, eq. 10).

    f_e is the fraction of assignments that chose e (no gradient), P_e the mean probability of e. Null experts
    have no part in it: P is brought to sum one over the others.

    Args:
        routings: what was recorded.
        counts: take f_e from the global batch, as far as ``counts`` has observed it, instead of from this
            micro-batch (Qiu et al. 2025): a micro-batch of one domain may then go to that domain's experts.
    """
    losses = []
    for name, routing in named(routings):
        fraction, mean = shares(routing, None if counts is None else counts.demand(name, routing))
        losses.append(len(mean) * (fraction * mean).sum())
    return torch.stack(losses).mean()


def shares(routing: Routing, demand: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(E,) f_e, the fraction of assignments that chose e, and (E,) P_e, its mean probability."""
    mean = probs_of(routing)[:, routing.fixed : routing.num_experts].sum(0)
    demand = (routing.demand if demand is None else demand)[routing.fixed :].to(mean.dtype)
    least = torch.finfo(mean.dtype).tiny
    return demand / demand.sum().clamp(min=1), mean / mean.sum().clamp(min=least)


def z_loss(routings: Routings) -> Tensor:
    """Mean over tokens of logsumexp(logits)^2: keeps logits small (Zoph et al. 2022, eq. 5)."""
    return torch.stack([_mean(logits_of(r).logsumexp(-1).square()) for r in each(routings)]).mean()


def entropy(routings: Routings) -> Tensor:
    """Mean over tokens of the entropy of their probabilities, in nats (Huang et al. 2024, eq. 6)."""
    return torch.stack([_mean(nats(probs_of(r))) for r in each(routings)]).mean()


def importance_cv(routings: Routings) -> Tensor:
    """CV^2 of importance, the summed weights of each expert (Shazeer et al. 2017, eq. 6-7)."""
    return torch.stack([cv_squared(importance(r)) for r in each(routings)]).mean()


def load_cv(routings: Routings) -> Tensor:
    """CV^2 of load, the expected tokens of each expert (Shazeer et al. 2017, appendix A).

    A noisy router supplies a smooth load while it trains; for others the load is a count, without gradient.
    """
    return torch.stack([cv_squared(smooth_load(r)) for r in each(routings)]).mean()


def importance(routing: Routing) -> Tensor:
    """(E,) the summed weights of each expert, over gates too."""
    weight = routing.weight.flatten(1).sum(1) if routing.weight.ndim > 1 else routing.weight
    return weight.new_zeros(routing.num_experts).index_add(0, routing.expert, weight)[routing.fixed :]


def smooth_load(routing: Routing) -> Tensor:
    """(E,) the expected tokens of each expert where a noisy router knows them, else their number."""
    smooth = routing.extras.get("load")
    if smooth is None:
        return routing.demand[routing.fixed :].to(routing.weight.dtype)
    return (smooth if routing.mask is None else smooth[routing.mask]).sum(0)[routing.fixed :]


def cv_squared(x: Tensor) -> Tensor:
    """Variance over squared mean, a scalar."""
    return x.var(correction=0) / (x.mean().square() + 1e-10)


def nats(probs: Tensor) -> Tensor:
    """(...) entropy of distributions (..., E)."""
    # the gradient of p log p is infinite at p = 0, which a sure router's softmax reaches
    return -(probs * probs.clamp(min=torch.finfo(probs.dtype).tiny).log()).sum(-1)


def _mean(x: Tensor) -> Tensor:
    return x.sum() / max(x.numel(), 1)
