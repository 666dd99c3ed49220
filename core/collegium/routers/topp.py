"""Top-p routing: as many experts as it takes to be sure."""

from torch import Tensor

from collegium.context import Context
from collegium.routers.base import Gate, Router, softmax
from collegium.routing import Routing


class TopP(Router):
    """The fewest experts whose probabilities reach p together (Huang et al. 2024, Dynamic-MoE, section 3).

    Experts are taken by falling probability; the one that reaches p is included; weights are the raw
    probabilities. An unsure token gets more experts than a sure one. Pair it with ``balance.entropy``, or the
    router learns to be unsure of everything.

    Args:
        dim, num_experts: D and E.
        p: in (0, 1]; at 1 every expert is taken.

    Raises:
        ValueError: p outside (0, 1].

    >>> import torch
    >>> router, x = TopP(16, 8, p=0.4), torch.randn(100, 16)
    >>> sure, unsure = router(50 * x).experts_per_token(), router(x / 50).experts_per_token()
    >>> bool(sure.float().mean() < unsure.float().mean())
    True
    """

    def __init__(self, dim: int, num_experts: int, p: float = 0.4) -> None:
        super().__init__(dim, num_experts)
        if not 0 < p <= 1:
            raise ValueError(f"TopP: p={p} must lie in (0, 1]")
        self.p = p
        self.gate = Gate(dim, num_experts)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Take experts until their mass reaches p."""
        logits = self.gate(x)
        probs = softmax(logits)
        falling, order = probs.detach().sort(dim=1, descending=True)
        before = falling.cumsum(1) - falling
        # rounding may bring the mass before the last expert up to 1: at p = 1 none is left out
        taken = before < self.p if self.p < 1 else before.new_ones(before.shape).bool()
        taken[:, :1] = True
        selected = taken.new_zeros(taken.shape).scatter(1, order, taken)
        return Routing.from_selection(selected, probs, mask=context.mask, logits=logits, probs=probs)

    def extra_repr(self) -> str:
        """Sizes and p."""
        return f"{super().extra_repr()}, p={self.p}"
