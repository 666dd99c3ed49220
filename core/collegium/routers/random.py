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
    Costs k experts a token in training, all in evaluation.

    Args:
        dim, num_experts: D and E (D is not looked at).
        k: experts a token in training.

    Raises:
        ValueError: k outside 1 to E.

    >>> router, x = Random(16, 8, k=2), torch.randn(10, 16)
    >>> router(x).token.numel(), router.eval()(x).token.numel()
    (20, 80)
    """

    blind = True

    def __init__(self, dim: int, num_experts: int, k: int = 1) -> None:
        super().__init__(dim, num_experts)
        check_share("Random", k, num_experts)
        self.k = k

    @property
    def experts_a_token(self) -> int:
        """k in training, all in evaluation."""
        return self.k if self.training else self.num_experts

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Draw, or average over all."""
        uniform = x.new_full((len(x), self.num_experts), 1 / self.num_experts)
        if not self.training:
            return Routing.dense(uniform, mask=context.mask, probs=uniform)
        index = torch.rand_like(uniform).topk(self.k, dim=1).indices
        weight = x.new_full(index.shape, 1 / self.k)
        return Routing.from_topk(index, weight, self.num_experts, mask=context.mask, probs=uniform)


class RandomPartition(Router):
    """In training a random partition of the tokens into equal parts, in evaluation the average.

    The training of Huang et al. 2023 ("Experts weights averaging"), who average the experts' weights into one
    block afterwards; here evaluation averages what they say. Drawing is by torch's global generator; part
    sizes differ by one at most. Costs one expert a token, and all in evaluation.

    Args:
        dim, num_experts: D and E (D is not looked at).

    >>> RandomPartition(16, 4)(torch.randn(20, 16)).counts.tolist()
    [5, 5, 5, 5]
    """

    blind = True

    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(dim, num_experts)
        self.causal = False

    @property
    def experts_a_token(self) -> int:
        """One in training, all in evaluation."""
        return 1 if self.training else self.num_experts

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Deal the tokens out, or average over all."""
        uniform = x.new_full((len(x), self.num_experts), 1 / self.num_experts)
        if not self.training:
            return Routing.dense(uniform, mask=context.mask, probs=uniform)
        order = torch.rand(len(x), device=x.device)
        if context.mask is not None:
            order = order.masked_fill(~context.mask, torch.inf)  # dealt out last
        place = order.argsort().argsort()
        index = place[:, None] % self.num_experts
        weight = x.new_ones(index.shape)
        return Routing.from_topk(index, weight, self.num_experts, mask=context.mask, probs=uniform)
