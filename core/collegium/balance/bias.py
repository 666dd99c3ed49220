"""Balance without a loss: a bias on the choice."""

import torch
from torch import Tensor, nn

from collegium.balance.collect import Routings, named
from collegium.balance.counts import GlobalCounts
from collegium.layer import moe_layers
from collegium.routers import Router


class BiasBalance:
    """Auxiliary-loss-free balancing (Wang et al. 2024, algorithm 1): b_e += rate * sign(mean load - load_e).

    The bias is a buffer of each router (``TopK(bias=True)``), or of the router inside it, and moves the
    choice alone, never a weight or a gradient. Experts that every token has (``FixedPlusRouted``) have none.
    Observe every micro-batch, step once an optimiser step.

    Args:
        model: holds the MoE layers.
        rate: size of one step; 1e-3 in the paper. Larger oscillates.
        rest: the last share of training in which biases rest, 0.03 in DeepSeek-V3 (section 4.2).

    Raises:
        ValueError: a router of the model has no bias, or there is no MoE layer at all.

    >>> import torch
    >>> from collegium import MoE, experts, record, routers
    >>> model = MoE(routers.TopK(16, 4, bias=True), experts.MLP(16, 4, hidden=32))
    >>> balancing = BiasBalance(model, rate=1e-3)
    >>> with record(model) as routings:
    ...     y = model(torch.randn(99, 16))
    >>> balancing.observe(routings)
    >>> balancing.step()
    >>> bool(model.router.bias.abs().max() <= 1e-3)
    True
    """

    def __init__(self, model: nn.Module, rate: float = 1e-3, rest: float = 0.0) -> None:
        self.rate, self.rest = rate, rest
        self._counts = GlobalCounts()
        self._routers: dict[str, Router] = {name: layer.router for name, layer in moe_layers(model).items()}
        for name, router in self._routers.items():
            if not isinstance(getattr(router, "bias", None), Tensor):
                raise ValueError(
                    f"{name or 'the layer'}: {type(router).__name__} has no selection bias to balance by: "
                    "use TopK(bias=True)"
                )
        if not self._routers:
            raise ValueError("the model has no MoE layer to balance")

    def observe(self, routings: Routings) -> None:
        """Add the loads of a micro-batch, as recorded.

        Raises:
            ValueError: a routing is of a layer that the model does not have.
        """
        for name, _ in named(routings):
            if name not in self._routers:
                raise ValueError(
                    f"the model has no MoE layer {name!r}: observe what `collegium.record(model)` collected"
                )
        self._counts.observe(routings)

    @torch.no_grad()
    def step(self, progress: float = 0.0) -> None:
        """Move each bias one step towards equal load, and forget the loads.

        Args:
            progress: the share of training that is over.
        """
        rate = 0.0 if self.rest and progress >= 1 - self.rest else self.rate
        for name, demand in self._counts.observed.items():
            bias: Tensor = self._routers[name].bias  # type: ignore[assignment]
            chosen = demand[-len(bias) :]  # fixed experts come first
            bias += rate * torch.sign(chosen.sum() - len(chosen) * chosen).to(bias)  # exact in integers
        self._counts.step()
