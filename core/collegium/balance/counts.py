"""Loads of the global batch: over micro-batches and ranks."""

from torch import Tensor, distributed

from collegium.balance.collect import Routings, named
from collegium.routing import Routing


class GlobalCounts:
    """Adds up each layer's demand until ``step``, over micro-batches and ranks (Qiu et al. 2025).

    Attributes:
        observed: layer name -> (E,) demand since the last step.

    >>> import torch
    >>> from collegium import MoE, balance, experts, record, routers
    >>> model = MoE(routers.TopK(16, 4), experts.MLP(16, 4, hidden=32))
    >>> counts = GlobalCounts()
    >>> for micro_batch in torch.randn(64, 16).chunk(4):
    ...     with record(model) as routings:
    ...         loss = model(micro_batch).square().mean()
    ...     counts.observe(routings)
    ...     (loss + 0.01 * balance.load_balance(routings, counts)).backward()
    >>> int(counts.observed[""].sum())  # 64 tokens, two experts each; an optimiser step comes here
    128
    >>> counts.step()
    """

    def __init__(self) -> None:
        self.observed: dict[str, Tensor] = {}

    def observe(self, routings: Routings) -> None:
        """Add a micro-batch; with torch.distributed initialised, every rank must call it."""
        fresh: dict[str, Tensor] = {}
        for name, routing in named(routings):
            fresh[name] = fresh[name] + routing.demand if name in fresh else routing.demand.clone()
        for name, demand in fresh.items():
            if distributed.is_available() and distributed.is_initialized():
                distributed.all_reduce(demand)
            self.observed[name] = self.observed[name] + demand if name in self.observed else demand

    def demand(self, name: str, routing: Routing) -> Tensor:
        """(E,) observed demand of a layer, on the device of ``routing``.

        Raises:
            ValueError: the layer was not observed since the last step.
        """
        if name not in self.observed:
            raise ValueError(
                f"layer {name!r} was not observed: call counts.observe(routings) before the loss"
            )
        return self.observed[name].to(routing.demand.device)

    def step(self) -> None:
        """Forget, once an optimiser step."""
        self.observed.clear()
