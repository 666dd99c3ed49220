"""Routers with a memory that runs from layer to layer."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from collegium.context import Context
from collegium.routers.base import Router
from collegium.routers.topk import TopK
from collegium.routers.wrapper import Wrapper
from collegium.routing import Routing


class Recurrent(Wrapper):
    """h_l = GRU(V x, h_(l-1)), and a router of h_l (Qiu et al. 2024, RMoE, eq. 5-7).

    Every token carries a state through the layers, so that a layer knows how the earlier ones decided. The
    model hands the routing of the layer before to the layer: ``moe(x, context, previous)``; in the first
    layer the state is zero. In the paper one cell serves all layers: ``share_cells(model)``.

    Costs D * R + 6 R * R multiply-adds a token beside the inner router's R * E.

    Args:
        dim, num_experts: D and E.
        state_dim: R; 256 in the released code.
        router: (R, E) -> the router of the state.

    Raises:
        ValueError: a state without width, or an inner router of slots or one that does not look at the
            state, which would then learn nothing; at a call, a state of another width.

    >>> router = Recurrent(16, 4, state_dim=8)
    >>> first = router(torch.randn(10, 16))
    >>> router(torch.randn(10, 16), None, first).state.shape
    torch.Size([10, 8])
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        state_dim: int = 32,
        router: Callable[[int, int], Router] = TopK,
    ) -> None:
        if state_dim < 1:
            raise ValueError("Recurrent wants a state of at least width 1")
        super().__init__(dim, num_experts, router(state_dim, num_experts))
        if self.blind:
            raise ValueError(
                f"Recurrent: {type(self.router).__name__} does not look at the state, which would learn "
                "nothing: choose a router that does, such as TopK"
            )
        self.enter = nn.Parameter(torch.empty(state_dim, dim))
        self.cell = nn.GRUCell(state_dim, state_dim)
        nn.init.uniform_(self.enter, -(dim**-0.5), dim**-0.5)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Update each token's state, and route by it."""
        state = None if previous is None else previous.state
        expected = (len(x), self.enter.shape[0])
        if state is not None and state.shape != expected:
            raise ValueError(
                f"Recurrent expects a state {expected} of the layer before, not {tuple(state.shape)}"
            )
        entered = F.linear(x, self.enter.to(x.dtype))
        weights = {name: value.to(x.dtype) for name, value in self.cell.named_parameters()}
        last = torch.zeros_like(entered) if state is None else state.to(x.dtype)
        state = functional_call(self.cell, weights, (entered, last))
        return replace(self.decide(state, context, previous), state=state)


def share_cells(model: nn.Module) -> None:
    """Give all recurrent routers of a model, with states of one width, the cell of the first of them."""
    first: dict[int, nn.GRUCell] = {}
    for module in model.modules():
        if isinstance(module, Recurrent):
            module.cell = first.setdefault(module.enter.shape[0], module.cell)
