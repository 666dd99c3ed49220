"""Random routing: chance as a regulariser, and as a control."""

import torch
from torch import Tensor

from collegium.context import Context
from collegium.routers.base import Router, check_share
from collegium.routing import Routing


class Random(Router):
    """In training, k experts drawn uniformly for each token; in evaluation all experts, averaged.

    Stochastic experts of THOR (Zuo et al. 2022, section 3) with its ensemble inference. Drawing is by torch's
    global generator. For a control with a fixed random assignment freeze the parameters of a learned router.

    Args:
        dim, num_experts: D and E (D is not looked at).
        k: experts a token in training.

    Raises:
        ValueError: k outside 1 to E.

    >>> router, x = Random(16, 8, k=2), torch.randn(10, 16)
    >>> router(x).token.numel(), router.eval()(x).token.numel()
    (20, 80)
    """

    def __init__(self, dim: int, num_experts: int, k: int = 1) -> None:
        super().__init__(dim, num_experts)
        check_share("Random", k, num_experts)
        self.k = k

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Draw, or average over all."""
        uniform = x.new_full((len(x), self.num_experts), 1 / self.num_experts)
        if not self.training:
            return Routing.dense(uniform, mask=context.mask, probs=uniform)
        index = torch.rand_like(uniform).topk(self.k, dim=1).indices
        weight = x.new_full(index.shape, 1 / self.k)
        return Routing.from_topk(index, weight, self.num_experts, mask=context.mask, probs=uniform)
