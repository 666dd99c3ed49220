"""Even loads in training by solving for them."""

from collections.abc import Callable

import torch
from torch import Tensor, library

from collegium.context import Context
from collegium.gates import Gate, Linear
from collegium.routers.assignment import balanced_assignment
from collegium.routers.base import Router
from collegium.routers.topk import Score, TopK, largest


class Base(TopK):
    """In training T / E tokens an expert by assignment, in evaluation the best expert (Lewis et al. 2021).

    The assignment maximises the sum of the logits, which get no gradient from it; the weight is sigmoid(z),
    so that x + layer(x) is the paper's blend where the expert ends in a small change of x. Training looks at
    the whole batch and so is not causal; evaluation is greedy, and uneven where training had to push.

    Costs the gate, one expert a token, and in training an auction, which can take longer than the experts.

    Args:
        dim, num_experts: D and E.
        gate: (D, E) -> where the logits come from.

    >>> Base(16, 4)(torch.randn(20, 16)).counts.tolist()
    [5, 5, 5, 5]
    """

    def __init__(self, dim: int, num_experts: int, gate: Callable[[int, int], Gate] = Linear) -> None:
        super().__init__(dim, num_experts, k=1, score="sigmoid", gate=gate)
        self.causal = False

    keep_bias = Router.keep_bias

    def select(self, wish_TE: Tensor, logits_TE: Tensor, context: Context) -> Tensor:
        """(T, 1) by assignment in training, greedily in evaluation."""
        if not self.training:
            return largest(logits_TE, 1)
        real = slice(None) if context.mask is None else context.mask
        index = torch.zeros(len(logits_TE), dtype=torch.int64, device=logits_TE.device)
        index[real] = balanced_assignment(logits_TE[real])
        return index[:, None]


class Sinkhorn(TopK):
    """In training the k largest of a balanced plan, in evaluation of the scores (Clark et al. 2022, C.1).

    The plan is exp(z), its rows and columns scaled in turn until every expert has equal mass. It chooses,
    without gradient; weights are those of TopK. Training looks at the whole batch and so is not causal.

    Costs what TopK costs and in training a dozen passes over the (T, E) table.

    Args:
        dim, num_experts, k, renormalize, score, gate: see TopK.
        tolerance: the scaling ends when experts' masses are this near to even, as a share.
        most_rounds: or after so many rounds.

    Raises:
        ValueError: see TopK.

    >>> x = torch.randn(400, 16) + 1  # all tokens lean the same way
    >>> router = Sinkhorn(16, 4, k=1)
    >>> int(router(x).counts.max()) < int(router.eval()(x).counts.max())
    True
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        k: int = 2,
        renormalize: bool = False,
        score: Score = "softmax",
        gate: Callable[[int, int], Gate] = Linear,
        tolerance: float = 1e-2,
        most_rounds: int = 100,
    ) -> None:
        super().__init__(dim, num_experts, k, renormalize, score=score, gate=gate)
        self.causal = False
        self.tolerance, self.most_rounds = tolerance, most_rounds

    keep_bias = Router.keep_bias

    def select(self, wish_TE: Tensor, logits_TE: Tensor, context: Context) -> Tensor:
        """(T, K) by the plan in training, by the logits in evaluation."""
        if not self.training:
            return largest(logits_TE, self.k)
        real = slice(None) if context.mask is None else context.mask
        plan = torch.zeros_like(logits_TE)
        plan[real] = sinkhorn(logits_TE[real], self.tolerance, self.most_rounds)
        return largest(plan, self.k)


def sinkhorn(logits_TE: Tensor, tolerance: float = 1e-2, most_rounds: int = 100) -> Tensor:
    """(T, E) exp(logits) scaled so that rows sum to 1 and columns to T / E, within ``tolerance``.

    Without gradient. One operation to torch.compile, for which the number of rounds would break the graph.
    """
    plan: Tensor = torch.ops.collegium.sinkhorn(logits_TE.detach(), tolerance, most_rounds)
    return plan


@library.custom_op("collegium::sinkhorn", mutates_args=())
def _scale(logits_TE: Tensor, tolerance: float, most_rounds: int) -> Tensor:
    T, E = logits_TE.shape
    if not T:
        return logits_TE.clone()
    plan = (logits_TE - logits_TE.amax(1, keepdim=True)).exp()
    plan = plan.clamp(min=torch.finfo(plan.dtype).tiny)  # an expert that nobody wants has a share to scale up
    for _ in range(most_rounds):
        plan = plan * (T / E / plan.sum(0))
        plan = plan / plan.sum(1, keepdim=True)
        if float((plan.sum(0) * E / T - 1).abs().max()) <= tolerance:
            break
    return plan


@_scale.register_fake
def _(logits_TE: Tensor, tolerance: float, most_rounds: int) -> Tensor:
    return torch.empty_like(logits_TE)
