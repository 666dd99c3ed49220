"""What a trained model loses when its tokens get each other's experts."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from collegium import Routing
from collegium.evidence import ReliabilityMixture
from collegium.layer import AnyRouting, moe_layers
from torch import Tensor, nn


@contextmanager
def shuffled_routing(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Hand every token the experts and weights of another token, drawn anew at each call.

    The load of each expert and the distribution of weights stay as they are: what is lost is what the routers
    know of the tokens. Masked tokens take no part, nor do routers of slots. What a mixture by reliability
    makes of its experts is exchanged likewise.
    """
    generator = torch.Generator().manual_seed(seed)

    def exchange(router: nn.Module, args: Any, routing: AnyRouting) -> AnyRouting:
        if not isinstance(routing, Routing):
            return routing
        real = (
            torch.arange(routing.num_tokens) if routing.mask is None else routing.mask.nonzero()[:, 0].cpu()
        )
        order = torch.arange(routing.num_tokens)
        order[real] = real[torch.randperm(len(real), generator=generator)]
        return replace(routing, token=order.to(routing.token.device)[routing.token], position=None)

    def exchange_rows(trust: nn.Module, args: Any, found: Tensor) -> Tensor:
        return found[torch.randperm(len(found), generator=generator).to(found.device)]

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, ReliabilityMixture):
                stack.enter_context(module.trust.register_forward_hook(exchange_rows))
        for layer in moe_layers(model).values():
            stack.enter_context(layer.router.register_forward_hook(exchange))
        yield
