"""Load balance over the global batch, as one term."""

from torch import Tensor

from collegium.balance.collect import Routings
from collegium.balance.counts import GlobalCounts
from collegium.balance.losses import load_balance


class GlobalLoadBalance:
    """``load_balance`` with the fractions of the global batch, as a term that counts for itself.

    Call it once a micro-batch with what was recorded, and ``step`` once an optimiser step.

    >>> import torch
    >>> from collegium import MoE, experts, record, routers
    >>> model, term = MoE(routers.TopK(16, 4), experts.MLP(16, 4, hidden=32)), GlobalLoadBalance()
    >>> for micro_batch in torch.randn(64, 16).chunk(4):
    ...     with record(model) as routings:
    ...         loss = model(micro_batch).square().mean()
    ...     (loss + 0.01 * term(routings)).backward()
    >>> term.step()
    """

    def __init__(self) -> None:
        self.counts = GlobalCounts()

    def __call__(self, routings: Routings) -> Tensor:
        """Count a micro-batch, and return its loss."""
        self.counts.observe(routings)
        return load_balance(routings, self.counts)

    def step(self) -> None:
        """Forget, once an optimiser step."""
        self.counts.step()
