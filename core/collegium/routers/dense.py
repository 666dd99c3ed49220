"""Dense routing: every expert for every token."""

from torch import Tensor

from collegium.context import Context
from collegium.routers.base import GatedRouter, softmax
from collegium.routing import Routing


class AllExperts(GatedRouter):
    """All experts, weighted by softmax(z) (Jacobs et al. 1991): the mixture before sparsity.

    Costs E experts a token.

    Args:
        dim, num_experts: D and E.
        gate: (D, E) -> where the logits come from.

    >>> import torch
    >>> AllExperts(16, 8)(torch.randn(10, 16)).counts
    10
    """

    @property
    def experts_a_token(self) -> int:
        """All."""
        return self.num_experts

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Weigh every expert."""
        logits = self.gate(x, context, previous)
        probs = softmax(logits)
        return Routing.dense(probs, mask=context.mask, logits=logits, probs=probs)
