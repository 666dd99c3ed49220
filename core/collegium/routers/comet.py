"""COMET: decision trees that share one softmax, and a search over which leaf is which expert."""

import torch
from torch import Tensor, nn

from collegium.context import Context
from collegium.gates import Linear
from collegium.routers.assignment import balanced_assignment
from collegium.routers.base import Router, check_share
from collegium.routers.schedule import Schedule
from collegium.routers.smooth import fold, smooth_step
from collegium.routing import Routing


class Comet(Router):
    """k binary trees over the experts, mixed by one softmax (Ibrahim et al. 2023, COMET, sections 3 and 4).

    Every inner node of tree i sends a token right with the smooth step of v x + b, so that leaf l has
    probability P_il, exactly zero on most paths once the nodes have left their slope. With linear scores
    a_il, the weights are softmax over all trees and leaves of a_il + log P_il, summed over the trees: they
    sum to one and have at most k non-zeros in the end. Pair it with ``balance.selector_entropy``. Where E is
    no power of two, leaves beyond E stand for the experts from 0 on.

    With ``search`` above 0 each tree learns a permutation of its leaves during that share of training
    (section 4.2): a Gumbel-Sinkhorn relaxation that cools down, then the nearest permutation, which
    evaluation uses throughout. At the start it is the identity. ``anneal(progress)`` moves the schedule.

    Costs 2 k * E * D multiply-adds a token, and all experts at first, at most k in the end.

    Args:
        dim, num_experts: D and E.
        k: trees.
        gamma: width of the slope of the smooth step.
        search: the share of training in which permutations are learned.

    Raises:
        ValueError: k outside 1 to E, a slope without width, a share outside 0 to 1.

    >>> routing = Comet(16, 8, k=2)(torch.randn(10, 16))
    >>> torch.allclose(routing.dense_weight().sum(1), torch.ones(10))
    True
    """

    order: Tensor | None

    def __init__(
        self, dim: int, num_experts: int, k: int = 2, gamma: float = 1.0, search: float = 0.0
    ) -> None:
        super().__init__(dim, num_experts)
        check_share("Comet", k, num_experts)
        if gamma <= 0 or not 0 <= search <= 1:
            raise ValueError("Comet wants a positive gamma and a search between 0 and 1")
        self.trees, self.gamma, self.search = k, gamma, search
        self.depth = max(num_experts - 1, 1).bit_length()
        self.leaves = 2**self.depth
        self.nodes = Linear(dim, k * (self.leaves - 1))
        self.node_bias = nn.Parameter(torch.zeros(k * (self.leaves - 1)))
        self.scores = Linear(dim, k * self.leaves)
        with torch.no_grad():
            self.nodes.weight.mul_(gamma / 10)  # begin in the middle of the slope
        self.permutation = nn.Parameter(torch.eye(self.leaves).repeat(k, 1, 1)) if search else None
        self.register_buffer("order", torch.arange(self.leaves).repeat(k, 1) if search else None)
        self.schedule = Schedule(end=search)

    def anneal(self, progress: float) -> None:
        """Cool the search down; it ends at ``progress = search``, and the permutation is found for good."""
        searching = not self.schedule.over
        self.schedule.move(progress)
        if self.order is not None and searching and self.schedule.over:
            self.order.copy_(self._nearest())

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Mix the trees."""
        leaf = self._leaves(x, context)
        scores = self.scores(x, context, None).unflatten(1, (self.trees, -1))
        # P exp(a) over its sum is the softmax of a + log P, without the logarithm of zero; what is
        # subtracted comes from leaves in reach alone, which could all underflow otherwise
        scores = scores.masked_fill(leaf <= 0, -torch.inf)
        raised = leaf * (scores - scores.detach().amax((1, 2), keepdim=True)).exp()
        raised = raised / raised.sum((1, 2), keepdim=True)
        if self.permutation is not None:
            order = self._permutations(x.dtype)
            raised, leaf = (torch.einsum("tkl,klm->tkm", table, order) for table in (raised, leaf))
        weight = fold(raised, self.num_experts).sum(1)
        extras = {"selectors": fold(leaf, self.num_experts)}
        return Routing.from_selection(weight > 0, weight, mask=context.mask, probs=weight, extras=extras)

    def _leaves(self, x: Tensor, context: Context) -> Tensor:
        """(T, k, leaves) probability of each leaf; node n has the children 2n + 1 and 2n + 2."""
        z = self.nodes(x, context, None) + self.node_bias.to(x.dtype)
        right = smooth_step(z, self.gamma).unflatten(1, (self.trees, -1))
        leaf = x.new_ones(len(x), self.trees, 1)
        for level in range(self.depth):
            here = right[:, :, 2**level - 1 : 2 ** (level + 1) - 1]
            leaf = torch.stack([leaf * (1 - here), leaf * here], -1).flatten(2)
        return leaf

    def _permutations(self, dtype: torch.dtype) -> Tensor:
        """(k, leaves, leaves) which leaf is which expert: soft while training searches."""
        assert self.permutation is not None
        assert self.order is not None
        logits = self.permutation.to(dtype)
        if self.training and not self.schedule.over:
            share = self.schedule.progress.to(dtype) / self.search
            return gumbel_sinkhorn(logits, COLD[0] * torch.pow(COLD[1] / COLD[0], share))
        order = self.order if self.schedule.over else self._nearest()
        hard = torch.zeros_like(logits).scatter(2, order[:, :, None], 1.0)
        return hard + 0 * logits  # in the graph: distributed training waits for the parameter

    def _nearest(self) -> Tensor:
        """(k, leaves) the permutation nearest to what each tree has learned."""
        assert self.permutation is not None
        return torch.stack([balanced_assignment(tree, precision=1e-6) for tree in self.permutation.detach()])


COLD = (1.0, 0.01)
"""Temperature of the search at its start and at its end, in units of the logits' unit start. The released
code has 1e-3 to 1e-7, and more rounds towards the end."""


def gumbel_sinkhorn(
    logits: Tensor, temperature: float | Tensor, noise: float = 0.01, rounds: int = 20
) -> Tensor:
    """(..., n, n) doubly stochastic: exp((logits + noise) / temperature), columns and rows scaled in turn
    (Mena et al. 2018, section 3). Rows come last: they sum to one however few the rounds."""
    uniform = torch.rand_like(logits).clamp(1e-9, 1 - 1e-7)
    plan = (logits - noise * (-uniform.log()).log()) / temperature
    for _ in range(rounds):
        plan = plan - plan.logsumexp(-2, keepdim=True)
        plan = plan - plan.logsumexp(-1, keepdim=True)
    return plan.exp()
