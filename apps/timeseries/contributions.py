"""What each expert adds to a forecast."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from collegium import MoE, Routing
from torch import Tensor, nn

from apps.timeseries.model import Forecaster
from apps.timeseries.windows import Batch


@torch.no_grad()
def contributions(network: Forecaster, layer: MoE, batch: Batch, horizon: int) -> Tensor:
    """The forecast less what it would be without one expert of a layer, (E, B, H), for each expert.

    Without an expert its weight is zero and the others keep theirs. Where all that follows the layer is
    linear, as in RidgeMoE, these are summands of the forecast; elsewhere each is the effect of that expert
    alone, and they need not sum up.
    """
    whole = network.forecast_batch(batch, horizon)
    parts = []
    for expert in range(layer.experts.num_experts):
        with without(layer.router, expert):
            parts.append(whole - network.forecast_batch(batch, horizon))
    return torch.stack(parts)


@contextmanager
def without(router: nn.Module, expert: int) -> Iterator[None]:
    """Within, the weight of an expert is zero in all that a router decides."""

    def mute(module: nn.Module, args: Any, routing: Routing) -> Routing:
        silent = (routing.expert == expert).view(-1, *[1] * (routing.weight.ndim - 1))
        return replace(routing, weight=routing.weight.masked_fill(silent, 0.0))

    hook = router.register_forward_hook(mute)
    try:
        yield
    finally:
        hook.remove()
