"""What drives smooth selectors to a choice."""

import torch
from torch import Tensor

from collegium.balance.collect import Routings, each
from collegium.balance.losses import nats


def selector_entropy(routings: Routings) -> Tensor:
    """Mean over tokens and selectors of the entropy of a selector's distribution over experts, in nats.

    Zero when every selector of ``DSelectK``, or every tree of ``Comet``, has decided (Hazimeh et al. 2021,
    3.2; Ibrahim et al. 2023, eq. 6).

    Raises:
        ValueError: the router has no selectors.
    """
    losses = []
    for routing in each(routings):
        if "selectors" not in routing.extras:
            raise ValueError(
                "selector_entropy is for routers with selectors, DSelectK and Comet: leave it out"
            )
        selectors = routing.extras["selectors"]
        real = selectors if routing.mask is None else selectors[routing.mask]
        losses.append(nats(real).sum() / max(real[..., 0].numel(), 1))
    return torch.stack(losses).mean()
