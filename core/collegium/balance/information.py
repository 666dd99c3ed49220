"""What the choice of experts tells, and how concentrated it is."""

import math
from typing import Literal

import torch
from torch import Tensor

from collegium.balance.collect import Routings, each, probs_of
from collegium.balance.losses import nats, shares
from collegium.routing import Routing

About = Literal["token", "task", "domain", "label"]


def information(routings: Routings, about: About = "token") -> Tensor:
    """-I(expert; c), to be made small: experts are used evenly, and each for something of its own.

    I = H(e) - H(e | c) in nats, from the router's probabilities. Of the token itself it is -(H(mean p) - mean
    H(p)) (Shen et al. 2023, ModuleFormer, eq. 6); of the token's task, domain or class it is what Mod-Squad
    (Chen et al. 2023, eq. 5) maximises, and the layer has to be called with that field of ``Context``.

    Args:
        routings: what was recorded.
        about: c.

    Raises:
        ValueError: the layer was called without that field.
    """
    return torch.stack([-_information(routing, about) for routing in each(routings)]).mean()


def concentration(routings: Routings) -> Tensor:
    """H(mean p) / log E, to be made small: few experts serve all.

    For fine-tuning on one domain (ModuleFormer, section 3.3; the abstract names the aim, the form here is
    ours). The others stay where they are.
    """
    losses = []
    for routing in each(routings):
        _, mean = shares(routing)
        losses.append(nats(mean) / math.log(max(len(mean), 2)))
    return torch.stack(losses).mean()


def _information(routing: Routing, about: About) -> Tensor:
    probs = probs_of(routing)
    if not len(probs):
        return probs.sum()
    if about == "token":
        return nats(probs.mean(0)) - nats(probs).mean()
    value: Tensor | None = getattr(routing.context, about, None)
    if value is None:
        raise ValueError(f"information about the {about} needs context.{about}: call the layer with it")
    value = value if routing.mask is None else value[routing.mask]
    value = value.repeat_interleave(len(probs) // len(value))  # several gates are rows of their own
    _, group, sizes = value.unique(return_inverse=True, return_counts=True)
    given = probs.new_zeros(len(sizes), probs.shape[1]).index_add(0, group, probs) / sizes[:, None]
    conditional: Tensor = (sizes / len(probs) * nats(given)).sum()
    return nats(probs.mean(0)) - conditional
