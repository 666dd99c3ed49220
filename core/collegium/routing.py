"""Routing: the one value that travels from a router to the experts.

Legend: T tokens, E experts, K experts a token, G gates, A assignments (token, expert) sorted by expert,
then by token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from collegium.context import Context


@dataclass(frozen=True, eq=False)
class Routing:
    """Which token goes to which expert, with what weight, and how that came about.

    Args:
        token: (A,) int64, the token of each assignment, ascending within each expert.
        expert: (A,) int64, ascending.
        weight: (A,) the share of that expert in the token's output; (A, G) where G gates (tasks) read the
            same experts, each for an output of its own.
        counts: (E,) rows that each expert runs, or one int where all run equally many.
        demand: (E,) tokens that chose each expert, before any drop.
        num_tokens, num_experts: T and E.
        logits, probs: (T, E) raw scores and the distribution they became, (T, G, E) for G gates; null
            experts, which are never run, as extra last columns.
        mask: (T,) bool, False for tokens that take no part.
        position: (T, K) row of the j-th assignment of each token; present when every token has K.
        state: (T, R) what a recurrent router hands to the next layer, (T, G, R) for G gates.
        extras: tensors (T, \\*rest) that one family of routers alone needs.
        context: what the layer knew of the tokens beside their vectors; filled in by the layer.
        fixed: how many experts, the first ones, every token has without a choice.
    """

    token: Tensor
    expert: Tensor
    weight: Tensor
    counts: Tensor | int
    demand: Tensor
    num_tokens: int
    num_experts: int
    logits: Tensor | None = None
    probs: Tensor | None = None
    mask: Tensor | None = None
    position: Tensor | None = None
    state: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    context: Context | None = None
    fixed: int = 0

    def __repr__(self) -> str:
        """Sizes, and the names of the optional tensors that are there: the tensors would fill pages."""
        optional = ("logits", "probs", "mask", "position", "state")
        held = [name for name in optional if getattr(self, name) is not None] + list(self.extras)
        sizes = f"tokens={self.num_tokens}, experts={self.num_experts}, assignments={len(self.token)}"
        gates = [f"gates={self.weight.shape[1]}"] if self.weight.ndim > 1 else []
        return f"Routing({', '.join([sizes, *gates, *held])})"

    @classmethod
    def from_topk(
        cls,
        index_TK: Tensor,
        weight_TK: Tensor,
        num_experts: int,
        *,
        mask: Tensor | None = None,
        logits: Tensor | None = None,
        probs: Tensor | None = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> "Routing":
        """K experts for every token, by index. Masked tokens get none."""
        T, K = index_TK.shape
        expert, order = index_TK.reshape(-1).sort(stable=True)  # tokens of an expert stay in their order
        token = order if K == 1 else order // K
        position: Tensor | None = None
        if mask is None:
            rows = torch.arange(T * K, device=order.device)
            position = torch.empty_like(order).scatter_(0, order, rows).view(T, K)
        else:
            kept = mask[token]
            order, token, expert = order[kept], token[kept], expert[kept]
        counts = count(expert, num_experts)
        return cls(
            token=token,
            expert=expert,
            weight=weight_TK.reshape(-1).index_select(0, order),
            counts=counts,
            demand=counts,
            num_tokens=T,
            num_experts=num_experts,
            logits=logits,
            probs=probs,
            mask=mask,
            position=position,
            extras=extras or {},
        )

    @classmethod
    def from_selection(
        cls,
        selected_TE: Tensor,
        weight_TE: Tensor,
        *,
        mask: Tensor | None = None,
        logits: Tensor | None = None,
        probs: Tensor | None = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> "Routing":
        """Any number of experts for each token, by a bool table. Masked tokens get none.

        Weights are (T, E), or (T, E, G) for G gates.
        """
        T, E = selected_TE.shape
        if mask is not None:
            selected_TE = selected_TE & mask[:, None]
        expert, token = selected_TE.T.nonzero(as_tuple=True)
        counts = selected_TE.sum(0)
        return cls(
            token=token,
            expert=expert,
            weight=weight_TE[token, expert],
            counts=counts,
            demand=counts,
            num_tokens=T,
            num_experts=E,
            logits=logits,
            probs=probs,
            mask=mask,
            extras=extras or {},
        )

    @classmethod
    def dense(
        cls,
        weight_TE: Tensor,
        *,
        mask: Tensor | None = None,
        logits: Tensor | None = None,
        probs: Tensor | None = None,
    ) -> "Routing":
        """Every token to every expert, with the weights of the table: (T, E), or (T, E, G) for G gates."""
        T, E = weight_TE.shape[:2]
        tokens = torch.arange(T, device=weight_TE.device)
        position: Tensor | None = None
        if mask is None:
            position = tokens[:, None] + T * torch.arange(E, device=weight_TE.device)
        else:
            tokens = tokens[mask]
            weight_TE = weight_TE[mask]
        rows = tokens.shape[0]
        return cls(
            token=tokens.repeat(E),
            expert=torch.arange(E, device=weight_TE.device).repeat_interleave(rows),
            weight=weight_TE.transpose(0, 1).flatten(0, 1),
            counts=rows,
            demand=torch.full((E,), rows, device=weight_TE.device),
            num_tokens=T,
            num_experts=E,
            logits=logits,
            probs=probs,
            mask=mask,
            position=position,
        )

    def with_capacity(self, capacity: int | Tensor) -> "Routing":
        """At most ``capacity`` rows an expert; the assignments of least weight are dropped.

        Batch-prioritised (Riquelme et al. 2021, section 4.1; Switch-NeRF): who is dropped is decided by
        the weight, not by the place in the batch. Ties go to the earlier token. ``demand`` stays.

        Args:
            capacity: the same for all experts, or (E,) one each.

        Raises:
            ValueError: the routing is that of several gates.
        """
        if self.weight.ndim > 1:
            raise ValueError(
                "with_capacity needs one weight an assignment, not one for each of several gates"
            )
        by_weight = self.weight.detach().sort(descending=True, stable=True).indices
        order = by_weight[self.expert[by_weight].sort(stable=True).indices]
        rows = self.row_counts()
        rank = torch.arange(order.shape[0], device=order.device) - (rows.cumsum(0) - rows)[self.expert]
        limit = capacity[self.expert] if isinstance(capacity, Tensor) else capacity
        kept = order[rank < limit].sort().values
        return replace(
            self,
            token=self.token[kept],
            expert=self.expert[kept],
            weight=self.weight[kept],
            counts=rows.clamp(max=capacity) if isinstance(capacity, int) else rows.minimum(capacity),
            position=None,
        )

    @property
    def complete(self) -> bool:
        """Whether every token goes to every expert, so that the A rows are (E, T)."""
        return self.position is not None and self.position.shape[1] == self.num_experts

    def row_counts(self) -> Tensor:
        """(E,) int64 rows of each expert, also where ``counts`` is one int."""
        if isinstance(self.counts, Tensor):
            return self.counts
        return torch.full((self.num_experts,), self.counts, device=self.token.device)

    def experts_per_token(self) -> Tensor:
        """(T,) int64 how many experts run for each token."""
        return count(self.token, self.num_tokens)

    def dense_weight(self) -> Tensor:
        """(T, E), or (T, E, G) for G gates: the weights as a table, zero where a token does not go."""
        gates = self.weight.shape[1:]
        table = self.weight.new_zeros(self.num_tokens * self.num_experts, *gates)
        place = self.token * self.num_experts + self.expert
        return table.index_add(0, place, self.weight).view(self.num_tokens, self.num_experts, *gates)

    def selected(self) -> Tensor:
        """(T, E) bool, whether a token goes to an expert."""
        table = torch.zeros(self.num_tokens * self.num_experts, dtype=torch.bool, device=self.token.device)
        table[self.token * self.num_experts + self.expert] = True
        return table.view(self.num_tokens, self.num_experts)

    def stack(self, y: Tensor) -> Tensor:
        """Expert outputs (A, \\*out) as (T, E, \\*out), zeros where an expert was not asked."""
        if self.complete:
            return y.reshape(self.num_experts, self.num_tokens, *y.shape[1:]).transpose(0, 1)
        stacked = y.new_zeros(self.num_tokens, self.num_experts, *y.shape[1:])
        return stacked.index_put((self.token, self.expert), y)


def count(index: Tensor, size: int) -> Tensor:
    """(size,) int64 occurrences."""
    if not torch.compiler.is_compiling() and not index.is_meta:
        return torch.bincount(index, minlength=size)
    # bincount has no static shape, and none at all on the meta device
    return torch.zeros(size, dtype=torch.int64, device=index.device).scatter_add_(
        0, index, torch.ones_like(index)
    )
