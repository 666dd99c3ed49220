"""A router that watches its experts."""

from collections.abc import Callable, Sequence

import torch
from collegium import Context, Routing
from collegium.routers import Router
from collegium.routers.wrapper import Wrapper
from torch import Tensor

from apps.drift.experts.alone import before
from apps.drift.experts.scale import RunningScale
from apps.drift.gate import MEASURES

SURE = 1e-2
"""Probabilities below count as this in a record, so that one bad miss is forgotten in time."""


class Watching(Wrapper):
    """Shows another router a row's features in their deviations, and behind them each expert's record.

    A record tells, at each speed of forgetting, the mean log-probability that the expert gave to the labels,
    and the share of them that it got right.

    Args:
        dim: D, the features of a row.
        num_experts: E.
        router: (D + E * 2 * speeds, E) -> the router that decides.
        memories: for each speed, the rows that count.
    """

    record: Tensor

    def __init__(
        self,
        dim: int,
        num_experts: int,
        router: Callable[[int, int], Router],
        memories: Sequence[int] = (50, 500),
    ) -> None:
        measures = MEASURES * len(memories)
        super().__init__(dim, num_experts, router(dim + num_experts * measures, num_experts))
        self.decays = [1 - 1 / memory for memory in memories]
        self.scale = RunningScale(dim)
        self.register_buffer("record", torch.zeros(num_experts, measures, dtype=torch.float64))

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """What the other router makes of it."""
        record = self.record.flatten().to(x.dtype).expand(len(x), -1)
        return self.decide(torch.cat([self.scale(x).to(x.dtype), record], 1), context, previous)

    @torch.no_grad()
    def watch(self, said: Tensor, y: Tensor) -> None:
        """Take up what every expert had said of some rows, (T, E, C), whose labels (T,) are known now."""
        index = y.view(-1, 1, 1).expand(-1, self.num_experts, 1)
        chance = said.gather(2, index).squeeze(2).double().clamp(min=SURE)
        right = (said.argmax(2) == y[:, None]).double()
        measured = torch.stack([chance.log(), right], 2)
        for i, decay in enumerate(self.decays):
            *_, end = before(torch.ones(len(y), device=y.device), decay)
            place = slice(MEASURES * i, MEASURES * (i + 1))
            new = torch.einsum("t,tem->em", end, measured)
            self.record[:, place] = decay ** len(y) * self.record[:, place] + (1 - decay) * new
