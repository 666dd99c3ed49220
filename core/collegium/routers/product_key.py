"""Product keys: n times n experts from twice n scores."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collegium.context import Context
from collegium.routers.base import Router
from collegium.routing import Routing


class ProductKey(Router):
    """Expert (i, j) gets the product of two gates, g_i * g'_j, over heads (Park et al. 2024, Monet, 3).

    Each head has two lists of n = sqrt(E) scores. A score is normalised over the batch; those above the
    quantile that k of n would exceed if scores were normal are kept (the best one always), and softmaxed
    among each other. So about k * k experts a head are chosen: k in expectation only.

    In training the normalisation looks at the batch, and so the router is not causal; evaluation uses running
    moments. Costs 2 * heads * n * D multiply-adds a token and a (T, E) table.

    Args:
        dim, num_experts: D and E, a square.
        heads: independent choices, added up.
        k: scores kept of n, in expectation.
        momentum: of the running moments.

    Raises:
        ValueError: E is no square, k outside 1 to n, no head.

    >>> routing = ProductKey(16, 64, heads=2, k=2)(torch.randn(10, 16))
    >>> torch.allclose(routing.dense_weight().sum(1), torch.full((10,), 2.0))  # one a head
    True
    """

    mean: Tensor
    var: Tensor

    def __init__(self, dim: int, num_experts: int, heads: int = 1, k: int = 1, momentum: float = 0.1) -> None:
        super().__init__(dim, num_experts)
        n = math.isqrt(num_experts)
        if n * n != num_experts or not 1 <= k <= n or heads < 1:
            raise ValueError(
                f"ProductKey wants E a square, k from 1 to its root and a head, not E={num_experts}, "
                f"k={k}, heads={heads}"
            )
        self.side, self.heads, self.momentum = n, heads, momentum
        self.causal = False
        self.keys = nn.Parameter(torch.empty(2 * heads * n, dim))
        nn.init.uniform_(self.keys, -(dim**-0.5), dim**-0.5)
        share = torch.tensor(min(k / n, 1 - 1e-6), dtype=torch.float32)
        self.threshold = float(torch.special.ndtri(1 - share))
        self.register_buffer("mean", torch.zeros(2 * heads * n, dtype=torch.float32))
        self.register_buffer("var", torch.ones(2 * heads * n, dtype=torch.float32))

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Multiply the two gates of each head."""
        logits = F.linear(x, self.keys.to(x.dtype))
        shape = (len(x), 2, self.heads, self.side)
        normal = self._normalise(logits.detach(), context.mask).view(shape)
        kept = normal >= normal.amax(-1, keepdim=True).clamp(max=self.threshold)
        left, right = logits.view(shape).masked_fill(~kept, -torch.inf).softmax(-1).unbind(1)
        weight = torch.einsum("thi,thj->tij", left, right).flatten(1)
        probs = weight / self.heads
        return Routing.from_selection(weight.detach() > 0, weight, mask=context.mask, probs=probs)

    def _normalise(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """Scores (T, C) by the moments of the batch in training, which the running ones follow."""
        mean, var = self.mean.to(scores.dtype), self.var.to(scores.dtype)
        real = scores if mask is None else scores[mask]
        if self.training and len(real) > 1:
            var, mean = torch.var_mean(real, 0)
            self.mean.lerp_(mean.to(self.mean.dtype), self.momentum)
            self.var.lerp_(var.to(self.var.dtype), self.momentum)
        return (scores - mean) / (var + 1e-5).sqrt()
