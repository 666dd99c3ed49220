"""Experts that learn from the rows of a stream, without gradients: trees, neighbours, counts."""

from abc import abstractmethod
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from collegium.context import Context
from collegium.experts.base import Experts
from collegium.experts.lists import ExpertGroups
from collegium.routing import Routing


class OnlineExperts(Experts):
    """Experts that learn by being shown rows. No gradient passes through them.

    Args:
        num_experts, item_ndim: see Experts.

    Raises:
        ValueError: see Experts, or a need of context, which they are not given.
    """

    def __init__(self, num_experts: int, item_ndim: int | None = None) -> None:
        super().__init__(num_experts, item_ndim)
        if self.needs:
            raise ValueError(
                f"{type(self).__name__} needs context.{self.needs[0]}, and experts on a stream get rows alone"
            )

    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Rows (A, \\*item) sorted by expert to (A, \\*out), by what the experts know now."""
        with torch.no_grad():
            return self.predict(x, counts)

    @abstractmethod
    def predict(self, x: Tensor, counts: Tensor | int) -> Tensor:
        """What ``forward`` returns."""

    @abstractmethod
    def learn(self, x: Tensor, y: Tensor, routing: Routing) -> Tensor:
        """Test, then train: show each expert its tokens, in their order.

        Args:
            x: (T, \\*item), a stretch of the stream, the earliest token first.
            y: (T, \\*label), what was to be predicted.
            routing: of these tokens; the weight of an assignment is that of the lesson. Where it is zero the
                expert is asked and does not learn. A masked token has no assignment.

        Returns:
            (A, \\*out), what the expert of each assignment had said before it saw that token's label: it
            knows the tokens before it, and none from there on.
        """


def teach(experts: Experts, x: Tensor, y: Tensor, routing: Routing) -> Tensor:
    """Let the online experts of a block learn; return (A, \\*out) what all had said before.

    Experts that learn by gradient are run as they are, inside a group too: they learn when the optimiser
    steps.

    Args:
        experts: a block, or several side by side.
        x, y, routing: see OnlineExperts.learn; ``routing.context`` holds what the block needs.

    Raises:
        ValueError: a block that learns by gradient needs what the context does not hold.
    """
    if isinstance(experts, OnlineExperts):
        return experts.learn(x, y, routing)
    if not isinstance(experts, ExpertGroups):
        context = routing.context or Context()
        context.require(experts.needs, type(experts).__name__)
        side = {name: getattr(context, name)[routing.token] for name in experts.needs}
        said: Tensor = experts(x[routing.token], routing.counts, **side)
        return said
    parts = zip(experts, pairwise([0, *accumulate(experts.sizes)]), strict=True)
    return torch.cat([teach(block, x, y, _of_block(routing, *part)) for block, part in parts])


def _of_block(routing: Routing, first: int, end: int) -> Routing:
    """The assignments to experts ``first`` to ``end - 1``, which are numbered from zero again."""
    own = (routing.expert >= first) & (routing.expert < end)
    rows = routing.row_counts()[first:end]
    return replace(
        routing,
        token=routing.token[own],
        expert=routing.expert[own] - first,
        weight=routing.weight[own],
        counts=rows,
        demand=routing.demand[first:end],
        num_experts=end - first,
        logits=None,
        probs=None,
        position=None,
        extras={},
    )
