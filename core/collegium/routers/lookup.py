"""Experts that are known beforehand."""

from collections.abc import Sequence

import torch
from torch import Tensor

from collegium.context import IDS, Context, Id
from collegium.routers.base import Router
from collegium.routing import Routing


class Lookup(Router):
    """The experts that a table names for the token's class, task, domain, position or segment.

    For classes that are known in training and use: a taxon each (AniMer+), a window each of a signal
    (EvidenceMoE). Nothing is learned. Costs nothing beside the experts.

    Args:
        dim, num_experts: D and E (D is not looked at).
        by: the Context field.
        table: for each value the experts that serve it; by default value v has expert v mod E.

    Raises:
        ValueError: an unknown field, or a table that names no expert for a value or one that is not there; at
            a call, a value outside the table.

    >>> context = Context(label=torch.tensor([2, 0, 1]))
    >>> Lookup(16, 3, table=[[0], [1, 2], [2]])(torch.randn(3, 16), context).experts_per_token().tolist()
    [1, 1, 2]
    """

    blind = True
    shares: Tensor

    def __init__(
        self,
        dim: int,
        num_experts: int,
        by: Id = "label",
        table: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(dim, num_experts)
        if by not in IDS:
            raise ValueError(f"Lookup: by={by!r} is not one of {', '.join(IDS)}")
        self.open_ended = table is None
        lines = [list(line) for line in (_one_each(num_experts) if table is None else table)]
        if not lines or any(not line or not set(line) <= set(range(num_experts)) for line in lines):
            raise ValueError(f"Lookup: each line of the table must name experts from 0 to {num_experts - 1}")
        self.by = by
        self.needs = (by,)
        shares = torch.zeros(len(lines), num_experts)
        for value, line in enumerate(lines):
            shares[value, list(set(line))] = 1 / len(set(line))
        self.register_buffer("shares", shares, persistent=False)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Look up each token's value."""
        value: Tensor = getattr(context, self.by)
        if context.mask is not None:
            value = value.where(context.mask, 0)  # padding may hold anything
        if self.open_ended:
            value = value % self.num_experts
        else:
            self._check(value)
        share = self.shares.to(x.dtype)[value]
        return Routing.from_selection(share > 0, share, mask=context.mask, probs=share)

    def _check(self, value: Tensor) -> None:
        if torch.compiler.is_compiling() or not value.numel():
            return
        low, high = int(value.min()), int(value.max())
        if not 0 <= low <= high < len(self.shares):
            raise ValueError(
                f"context.{self.by} reaches from {low} to {high}, and the table of Lookup has the values "
                f"0 to {len(self.shares) - 1}"
            )


def _one_each(num_experts: int) -> list[list[int]]:
    return [[expert] for expert in range(num_experts)]
