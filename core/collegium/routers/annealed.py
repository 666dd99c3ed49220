"""From dense to sparse while training goes on."""

from collections.abc import Callable

import torch
from torch import Tensor

from collegium.context import Context
from collegium.gates import Gate, Linear
from collegium.routers.base import GatedRouter, softmax
from collegium.routers.schedule import Schedule
from collegium.routers.topk import largest
from collegium.routing import Routing


class DenseToSparse(GatedRouter):
    """A Gumbel-softmax that cools down, cut at a threshold (Nie et al. 2022, EvoMoE, section 3.3).

    In training g = softmax((z + Gumbel noise) / tau), in evaluation without noise; experts with g above the
    threshold run, with weights g over their sum. tau falls from ``warm`` to ``cold`` as training goes on, and
    so does the number of experts; at its end each token has its best expert alone, weighted by softmax(z).
    ``anneal(progress)`` moves the schedule; without it the router stays warm.

    Costs the gate, all experts at first and one in the end.

    Args:
        dim, num_experts: D and E.
        warm, cold: temperatures at the start and the end; the released code stops at 0.5.
        threshold: experts of less weight are not run.
        gate: (D, E) -> where the logits come from.

    Raises:
        ValueError: temperatures that do not fall, or a threshold outside 0 to 1.

    >>> router, x = DenseToSparse(16, 8).eval(), torch.randn(10, 16)
    >>> many = router(x).token.numel()
    >>> router.anneal(1.0)
    >>> many, router(x).token.numel()
    (80, 10)
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        warm: float = 1.0,
        cold: float = 0.1,
        threshold: float = 1e-3,
        gate: Callable[[int, int], Gate] = Linear,
    ) -> None:
        super().__init__(dim, num_experts, gate)
        if not 0 < cold <= warm or not 0 <= threshold < 1:
            raise ValueError("DenseToSparse wants warm >= cold > 0 and a threshold between 0 and 1")
        self.warm, self.cold, self.threshold = warm, cold, threshold
        self.schedule = Schedule()

    def anneal(self, progress: float) -> None:
        """Take up the share of training that is over."""
        self.schedule.move(progress)

    @property
    def temperature(self) -> Tensor:
        """() tau, now: it falls exponentially."""
        return self.warm * torch.pow(self.cold / self.warm, self.schedule.progress)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Keep what lies above the threshold."""
        logits = self.gate(x, context, previous)
        probs = softmax(logits)
        if self.schedule.over:
            index = largest(probs.detach(), 1)
            weight = probs.gather(1, index)
            return Routing.from_topk(
                index, weight, self.num_experts, mask=context.mask, logits=logits, probs=probs
            )
        noise = -torch.empty_like(logits).exponential_().log() if self.training else 0.0
        soft = softmax((logits + noise) / self.temperature)
        kept = (soft > self.threshold).scatter(1, largest(soft.detach(), 1), True)
        weight = soft * kept
        weight = weight / weight.sum(1, keepdim=True)
        return Routing.from_selection(kept, weight, mask=context.mask, logits=logits, probs=probs)
