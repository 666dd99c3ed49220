"""Experts that cost next to nothing: zero, copy, constant (MoE++, Jin et al. 2024, section 3.1)."""

from typing import Any

import torch
from torch import Tensor, nn

from collegium.experts.base import Experts, rows_of


class Zero(Experts):
    """Experts that add nothing: the token is skipped.

    Args:
        num_experts, item_ndim: see Experts.

    >>> Zero(2)(torch.ones(3, 4), torch.tensor([1, 2])).any()
    tensor(False)
    """

    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Rows to zeros of the same shape."""
        return torch.zeros_like(x)


class Copy(Experts):
    """Experts that hand the token on as it is.

    Args:
        num_experts, item_ndim: see Experts.

    >>> Copy(2)(torch.tensor([[3.0], [4.0]]), 1).tolist()
    [[3.0], [4.0]]
    """

    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Rows to themselves."""
        return x


class Constant(Experts):
    """a1 * x + a2 * v_e with [a1, a2] = softmax(W_e x) and a learned vector v_e (MoE++, eq. 5).

    Args:
        dim: D.
        num_experts: E.

    >>> Constant(16, 2)(torch.randn(10, 16), 5).shape
    torch.Size([10, 16])
    """

    def __init__(self, dim: int, num_experts: int = 1) -> None:
        super().__init__(num_experts)
        self.dim = dim
        self.value = nn.Parameter(torch.empty(num_experts, dim))
        self.mix = nn.Parameter(torch.empty(num_experts, dim, 2))
        nn.init.normal_(self.value, std=dim**-0.5)
        nn.init.uniform_(self.mix, -(dim**-0.5), dim**-0.5)

    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Rows (A, D) to (A, D)."""
        parts = zip(
            x.split(rows_of(counts, self.num_experts)), self.value.unbind(), self.mix.unbind(), strict=True
        )
        return torch.cat([_blend(x_e, value, (x_e @ mix).softmax(-1)) for x_e, value, mix in parts])


def _blend(x: Tensor, value: Tensor, share: Tensor) -> Tensor:
    return share[:, :1] * x + share[:, 1:] * value
