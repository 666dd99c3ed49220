"""Differentiable selection: DSelect-k, dense while it learns and sparse in the end."""

import torch
from torch import Tensor

from collegium.context import Context
from collegium.gates import Linear
from collegium.routers.base import Router, check_share
from collegium.routing import Routing


class DSelectK(Router):
    """A mixture of k selectors, each a smooth choice of one expert (Hazimeh et al. 2021, DSelect-k, 3).

    Selector i has m = ceil(log2 E) binary gates s_b = S(v_ib x); it takes expert e with r_i(e) = prod_b (s_b
    where bit b of e is set, else 1 - s_b), and the router's weights are g = sum_i softmax(U x)_i r_i. S is a
    smooth step: 0 below -gamma/2, 1 above gamma/2, a cubic between. So g is smooth in all parameters, sums to
    one, and has at most k non-zeros once all gates have left the slope. Pair it with
    ``balance.selector_entropy``, which pushes them off it. Where E is no power of two, codes beyond E stand
    for the experts from 0 on.

    Experts of weight zero are not run. Costs k * (m + 1) * D multiply-adds a token, and all experts at first,
    at most k in the end.

    Args:
        dim, num_experts: D and E.
        k: selectors.
        gamma: width of the slope.

    Raises:
        ValueError: k outside 1 to E, or a slope without width.

    >>> routing = DSelectK(16, 8, k=2)(torch.randn(10, 16))
    >>> torch.allclose(routing.dense_weight().sum(1), torch.ones(10))
    True
    """

    codes: Tensor

    def __init__(self, dim: int, num_experts: int, k: int = 2, gamma: float = 1.0) -> None:
        super().__init__(dim, num_experts)
        check_share("DSelectK", k, num_experts)
        if gamma <= 0:
            raise ValueError(f"DSelectK: gamma={gamma} must be positive")
        self.selectors, self.gamma = k, gamma
        bits = max(num_experts - 1, 1).bit_length()
        self.bits = Linear(dim, k * bits)
        self.share = Linear(dim, k) if k > 1 else None
        with torch.no_grad():
            self.bits.weight.mul_(gamma / 10)  # begin in the middle of the slope
        codes = torch.arange(2**bits)[:, None] >> torch.arange(bits) & 1
        self.register_buffer("codes", codes.bool(), persistent=False)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Mix the selectors."""
        step = smooth_step(self.bits(x, context, None), self.gamma)
        step = step.unflatten(1, (self.selectors, 1, -1))
        chosen = torch.where(self.codes, step, 1 - step).prod(-1)
        selected = fold(chosen, self.num_experts)
        weight = selected[:, 0]
        if self.share is not None:
            share = self.share(x, context, None).softmax(-1)
            weight = torch.einsum("tk,tke->te", share, selected)
        extras = {"selectors": selected}
        return Routing.from_selection(weight > 0, weight, mask=context.mask, probs=weight, extras=extras)

    def extra_repr(self) -> str:
        """Sizes and selectors."""
        return f"{super().extra_repr()}, k={self.selectors}"


def smooth_step(z: Tensor, gamma: float) -> Tensor:
    """0 up to -gamma/2, 1 from gamma/2 on, -2 z^3 / gamma^3 + 3 z / (2 gamma) + 1/2 between (eq. 5)."""
    inside = z.clamp(-gamma / 2, gamma / 2)
    return -2 * inside**3 / gamma**3 + 3 * inside / (2 * gamma) + 0.5


def fold(code: Tensor, num_experts: int) -> Tensor:
    """(..., E) mass of each expert, from that of (..., 2^m) codes: code c is expert c mod E."""
    expert = torch.arange(code.shape[-1], device=code.device) % num_experts
    mass = code.new_zeros(*code.shape[:-1], num_experts)
    return mass.index_add(-1, expert, code)
