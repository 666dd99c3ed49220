"""Experts that each read a copy of the input with features turned up and down."""

from typing import Any

import torch
from torch import Tensor, nn

from collegium.dispatch.grouped import grouped_mlp
from collegium.experts.base import Experts


class FeatureGate(Experts):
    """Hands expert e the row x * 2 sigmoid(x B_e A_e), of low rank (HoME, Wang et al. 2024, section 3.3).

    A is zero at the start, so that every expert begins with the row as it is and learns which features are
    not for it. Costs 2 D R multiply-adds a row.

    Args:
        block: the experts, of items (D,).
        dim: D.
        rank: R.

    Shapes:
        x (A, D) -> (A, \\*out).

    Raises:
        ValueError: a width or a rank below 1, or a block of other items.

    >>> from collegium.experts import MLP
    >>> block = MLP(16, 4, hidden=32)
    >>> x = torch.randn(12, 16)
    >>> torch.equal(FeatureGate(block, 16)(x, 3), block(x, 3))
    True
    """

    def __init__(self, block: Experts, dim: int, rank: int = 4) -> None:
        super().__init__(block.num_experts)
        if min(dim, rank) < 1 or block.item_ndim != 1:
            raise ValueError("FeatureGate wants experts of flat items, and dim and rank of at least 1")
        self.block, self.dim, self.needs = block, dim, block.needs
        self.narrow = nn.Parameter(torch.empty(block.num_experts, dim, rank))
        self.widen = nn.Parameter(torch.zeros(block.num_experts, rank, dim))
        nn.init.uniform_(self.narrow, -(dim**-0.5), dim**-0.5)

    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Rows (A, D) to (A, \\*out)."""
        gate = 2 * grouped_mlp(x, counts, self.narrow, self.widen, "identity").sigmoid()
        y: Tensor = self.block(x * gate, counts, **side)
        return y

    def parameters_each(self) -> list[float]:
        """(E) those of the block and of the gate."""
        gate = 2 * self.narrow[0].numel()
        return [size + gate for size in self.block.parameters_each()]
