"""Experts for every token, beside a router's choice."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from collegium.context import Context
from collegium.gates import Linear
from collegium.routers.base import Router
from collegium.routers.topk import TopK
from collegium.routers.wrapper import Wrapper
from collegium.routing import Routing


class FixedPlusRouted(Wrapper):
    """The first experts for every token, and a router's choice among the others (DeepSeekMoE; UniMoE-Audio).

    What ``MoE(shared=...)`` does with one module, here with experts of the block itself, so that they run in
    the same grouped product. ``Routing.fixed`` tells how many they are; balance terms leave them out. Costs
    the router and ``fixed`` experts more.

    Args:
        dim, num_experts: D and E, fixed ones included.
        fixed: how many experts every token gets.
        router: (D, E - fixed) -> the router of the others.
        scored: False weighs the fixed experts by 1 and the others as their router does. True gives fixed
            experts scores too, and weighs all experts of a token by one softmax over their scores, as the
            released code of UniMoE-Audio does.

    Raises:
        ValueError: no expert is left to choose from, or an inner router of slots, or with ``scored`` one
            without logits.

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
        scored: bool = False,
    ) -> None:
        if not 0 < fixed < num_experts:
            raise ValueError(
                f"FixedPlusRouted: fixed={fixed} must leave some of {num_experts} experts to choose"
            )
        super().__init__(dim, num_experts, router(dim, num_experts - fixed))
        self.fixed = fixed
        self.scores = Linear(dim, fixed) if scored else None

    @property
    def experts_a_token(self) -> int | None:
        """The fixed ones, and those of the inner router."""
        routed = self.router.experts_a_token
        return None if routed is None else self.fixed + routed

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Put the fixed experts before the choice."""
        T, fixed = len(x), self.fixed
        chosen = self.decide(x, context, self._of_routed(previous))
        if self.scores is None:
            weight = torch.cat([x.new_ones(T, fixed), chosen.dense_weight()], 1)
        else:
            open_ = self._logits(chosen).masked_fill(~chosen.selected(), -torch.inf)
            weight = torch.cat([self.scores(x, context, None), open_], 1).softmax(1)
        if chosen.position is not None:
            always = torch.arange(fixed, device=x.device).expand(T, fixed)
            index = torch.cat([always, chosen.expert[chosen.position] + fixed], 1)
            routing = Routing.from_topk(index, weight.gather(1, index), self.num_experts, mask=context.mask)
        else:
            everyone = torch.ones(T, fixed, dtype=torch.bool, device=x.device)
            selected = torch.cat([everyone, chosen.selected()], 1)
            routing = Routing.from_selection(selected, weight, mask=context.mask)
        logits = None if chosen.logits is None else _behind(chosen.logits, fixed, -torch.inf)
        probs = None if chosen.probs is None else _behind(chosen.probs, fixed, 0.0)
        extras = {
            name: _behind(value, fixed, 1.0 if name == "load" else 0.0)
            for name, value in chosen.extras.items()
        }
        demand = torch.cat([routing.demand[:fixed], chosen.demand])  # before the inner router drops any
        return replace(
            routing,
            logits=logits,
            probs=probs,
            demand=demand,
            state=chosen.state,
            extras=extras,
            fixed=fixed + chosen.fixed,
        )

    def _of_routed(self, previous: Routing | None) -> Routing | None:
        """The layer before without the fixed experts, which have no scores."""
        if previous is None or previous.logits is None or previous.num_experts != self.num_experts:
            return previous
        routed = self.num_experts - self.fixed
        return replace(previous, logits=previous.logits[..., self.fixed :], num_experts=routed)

    def _logits(self, chosen: Routing) -> Tensor:
        if chosen.logits is None:
            raise ValueError(
                f"FixedPlusRouted: {type(self.router).__name__} has no logits to weigh by: leave out scored"
            )
        return chosen.logits[:, : chosen.num_experts]


def _behind(scores: Tensor, fixed: int, value: float) -> Tensor:
    """The scores (..., E) behind ``fixed`` columns of a value."""
    return torch.cat([scores.new_full((*scores.shape[:-1], fixed), value), scores], -1)
