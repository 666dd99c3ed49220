"""Dense routing: every expert for every token."""

from torch import Tensor

from collegium.context import Context
from collegium.routers.base import Gate, Router, softmax
from collegium.routing import Routing


class AllExperts(Router):
    """All experts, weighted by softmax(W x) (Jacobs et al. 1991): the mixture before sparsity.

    Costs E experts a token.

    Args:
        dim, num_experts: D and E.

    >>> import torch
    >>> AllExperts(16, 8)(torch.randn(10, 16)).counts
    10
    """

    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(dim, num_experts)
        self.gate = Gate(dim, num_experts)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Weigh every expert."""
        logits = self.gate(x)
        probs = softmax(logits)
        return Routing.dense(probs, mask=context.mask, logits=logits, probs=probs)
