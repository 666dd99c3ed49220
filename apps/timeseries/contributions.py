"""What each expert adds to a forecast."""

from collections.abc import Iterator, Sequence
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
    """The forecast less what it would be without an expert of a layer, and without all, (E + 1, B, H).

    Without an expert its weight is zero and the others keep theirs. Where all that follows the layer is
    linear, as in RidgeMoE, the first E are summands of the forecast and sum up to the last; elsewhere each is
    the effect of that expert alone, and they need not.
    """
    whole = network.forecast_batch(batch, horizon)
    experts = range(layer.experts.num_experts)
    parts = []
    for silent in [*([expert] for expert in experts), list(experts)]:
        with without(layer.router, silent):
            parts.append(whole - network.forecast_batch(batch, horizon))
    return torch.stack(parts)


@contextmanager
def without(router: nn.Module, experts: Sequence[int]) -> Iterator[None]:
    """Within, the weight of some experts is zero in all that a router decides."""

    def mute(module: nn.Module, args: Any, routing: Routing) -> Routing:
        known = torch.as_tensor(experts, device=routing.expert.device)
        silent = torch.isin(routing.expert, known).view(-1, *[1] * (routing.weight.ndim - 1))
        return replace(routing, weight=routing.weight.masked_fill(silent, 0.0))

    hook = router.register_forward_hook(mute)
    try:
        yield
    finally:
        hook.remove()
