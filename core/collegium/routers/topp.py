"""Top-p routing: as many experts as it takes to be sure."""

from collections.abc import Callable

from torch import Tensor

from collegium.context import Context
from collegium.gates import Gate, Linear
from collegium.routers.base import GatedRouter, softmax
from collegium.routing import Routing


class TopP(GatedRouter):
    """The fewest experts whose probabilities reach p together (Huang et al. 2024, Dynamic-MoE, section 3).

    Experts are taken by falling probability; the one that reaches p is included; weights are the raw
    probabilities. An unsure token gets more experts than a sure one. Pair it with ``balance.entropy``, or the
    router learns to be unsure of everything.

    With null experts (Li et al. 2025, UniMoE-Audio) the softmax has ``nulls`` columns more. They stand for
    nothing at all: a token that prefers them is computed by fewer experts, or by none. They are never run,
    have no weights, and no share in balance terms.

    Costs the gate and a sort of E + nulls scores a token, and as many experts as are taken.

    Args:
        dim, num_experts: D and E.
        p: in (0, 1]; at 1 every expert is taken.
        nulls: number of null experts.
        gate: (D, E + nulls) -> where the logits come from.

    Raises:
        ValueError: p outside (0, 1], or a negative number of null experts.

    >>> import torch
    >>> router, x = TopP(16, 8, p=0.4), torch.randn(100, 16)
    >>> sure, unsure = router(50 * x).experts_per_token(), router(x / 50).experts_per_token()
    >>> bool(sure.float().mean() < unsure.float().mean())
    True
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        p: float = 0.4,
        nulls: int = 0,
        gate: Callable[[int, int], Gate] = Linear,
    ) -> None:
        super().__init__(dim, num_experts, gate, num_experts + nulls)
        if not 0 < p <= 1:
            raise ValueError(f"TopP: p={p} must lie in (0, 1]")
        if nulls < 0:
            raise ValueError(f"TopP: nulls={nulls} must not be negative")
        self.p = p
        self.nulls = nulls

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Take experts until their mass reaches p."""
        logits = self.gate(x, context, previous)
        probs = softmax(logits)
        falling, order = probs.detach().sort(dim=1, descending=True)
        before = falling.cumsum(1) - falling
        # rounding may bring the mass before the last expert up to 1: at p = 1 none is left out
        taken = before < self.p if self.p < 1 else before.new_ones(before.shape).bool()
        taken[:, :1] = True
        selected = taken.new_zeros(taken.shape).scatter(1, order, taken)[:, : self.num_experts]
        return Routing.from_selection(selected, probs, mask=context.mask, logits=logits, probs=probs)

    def extra_repr(self) -> str:
        """Sizes and p."""
        return f"{super().extra_repr()}, p={self.p}, nulls={self.nulls}"
