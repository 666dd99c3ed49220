"""Experts that are known beforehand, for some tokens or for all."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from collegium.context import Context
from collegium.routers.base import Router
from collegium.routers.topk import TopK
from collegium.routing import Routing

Key = Literal["label", "task", "domain", "position", "segment"]
KEYS: tuple[Key, ...] = get_args(Key)


class Lookup(Router):
    """The experts that a table names for the token's class, task, domain, position or segment.

    For classes that are known in training and use: a taxon each (AniMer+), a window each of a signal
    (EvidenceMoE). Nothing is learned. Costs nothing beside the experts.

    Args:
        dim, num_experts: D and E (D is not looked at).
        by: the Context field.
        table: for each value the experts that serve it; value v has expert v by default.

    Raises:
        ValueError: an unknown field, or a table that names no expert for a value or one that is not there; at
            a call, a value outside the table.

    >>> context = Context(label=torch.tensor([2, 0, 1]))
    >>> Lookup(16, 3, table=[[0], [1, 2], [2]])(torch.randn(3, 16), context).experts_per_token().tolist()
    [1, 1, 2]
    """

    shares: Tensor

    def __init__(
        self,
        dim: int,
        num_experts: int,
        by: Key = "label",
        table: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(dim, num_experts)
        if by not in KEYS:
            raise ValueError(f"Lookup: by={by!r} is not one of {', '.join(KEYS)}")
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
        elif len(x) and not 0 <= int(value.min()) <= int(value.max()) < len(self.shares):
            raise ValueError(
                f"context.{self.by} reaches from {int(value.min())} to {int(value.max())}, and the table of "
                f"Lookup has the values 0 to {len(self.shares) - 1}"
            )
        share = self.shares.to(x.dtype)[value]
        return Routing.from_selection(share > 0, share, mask=context.mask, probs=share)


def _one_each(num_experts: int) -> list[list[int]]:
    return [[expert] for expert in range(num_experts)]


class FixedPlusRouted(Router):
    """The first experts for every token, and a router's choice among the others (DeepSeekMoE; UniMoE-Audio).

    What ``MoE(shared=...)`` does with one module, here with experts of the block itself, so that they run in
    the same grouped product. To balance terms the fixed experts are loaded with every token and have no
    probability: ``load_balance`` is then below 1 at even use. Costs the router
    and ``fixed`` experts more.

    Args:
        dim, num_experts: D and E, fixed ones included.
        fixed: how many experts every token gets, with weight 1.
        router: (D, E - fixed) -> the router of the others.

    Raises:
        ValueError: no expert is left to choose from, or an inner router of slots.

    >>> routing = FixedPlusRouted(16, 8, fixed=1)(torch.randn(10, 16))
    >>> routing.counts[0].item(), routing.token.numel()
    (10, 30)
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        fixed: int = 1,
        router: Callable[[int, int], Router] = TopK,
    ) -> None:
        super().__init__(dim, num_experts)
        if not 0 < fixed < num_experts:
            raise ValueError(
                f"FixedPlusRouted: fixed={fixed} must leave some of {num_experts} experts to choose"
            )
        self.fixed = fixed
        self.router = router(dim, num_experts - fixed)
        self.needs, self.causal = self.router.needs, self.router.causal
        k = getattr(self.router, "k", None)
        if isinstance(k, int):
            self.k = fixed + k

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Put the fixed experts before the choice."""
        scores = None if previous is None else previous.logits
        if previous is not None and scores is not None and scores.shape[1:] == (self.num_experts,):
            previous = replace(previous, logits=scores[:, self.fixed :])  # fixed experts have no scores
        chosen = self.router(x, context, previous)
        if not isinstance(chosen, Routing):
            raise ValueError(
                f"FixedPlusRouted needs a router that assigns tokens, not {type(self.router).__name__}"
            )
        T, fixed = len(x), self.fixed
        if chosen.position is not None:
            always = torch.arange(fixed, device=x.device).expand(T, fixed)
            index = torch.cat([always, chosen.expert[chosen.position] + fixed], 1)
            weight = torch.cat([x.new_ones(T, fixed), chosen.weight[chosen.position]], 1)
            routing = Routing.from_topk(index, weight, self.num_experts, mask=context.mask)
        else:
            weight = torch.cat([x.new_ones(T, fixed), chosen.dense_weight()], 1)
            everyone = torch.ones(T, fixed, dtype=torch.bool, device=x.device)
            selected = torch.cat([everyone, chosen.selected()], 1)
            routing = Routing.from_selection(selected, weight, mask=context.mask)
        logits, probs = _behind(chosen.logits, fixed, -torch.inf), _behind(chosen.probs, fixed, 0.0)
        return replace(routing, logits=logits, probs=probs, state=chosen.state, extras=chosen.extras)

    def anneal(self, progress: float) -> None:
        """Pass on to the inner router."""
        self.router.anneal(progress)


def _behind(scores: Tensor | None, fixed: int, value: float) -> Tensor | None:
    """The scores (T, E) behind ``fixed`` columns of a value."""
    return None if scores is None else torch.cat([scores.new_full((len(scores), fixed), value), scores], 1)
