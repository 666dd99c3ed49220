"""Experts that each read one row of an item."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from collegium.experts.base import Experts


class RowExperts(Experts):
    """Hands each expert of a block its own row of the item: the levels above the first of PLE and HoME.

    Args:
        block: the experts, of items (D,).
        read: E numbers, the row that each expert reads.

    Shapes:
        x (A, R, D) -> (A, \\*out).

    Raises:
        ValueError: not one row an expert, or a block of other items.

    >>> from collegium.experts import MLP
    >>> RowExperts(MLP(16, 3, hidden=8), read=[0, 0, 1])(torch.randn(6, 2, 16), 2).shape
    torch.Size([6, 16])
    """

    rows: Tensor

    def __init__(self, block: Experts, read: Sequence[int]) -> None:
        super().__init__(block.num_experts, item_ndim=2)
        if len(read) != block.num_experts or min(read) < 0 or block.item_ndim != 1:
            raise ValueError(f"RowExperts wants a row for each of {block.num_experts} experts of flat items")
        self.block, self.dim, self.needs = block, block.dim, block.needs
        self.register_buffer("rows", torch.tensor(read), persistent=False)

    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Rows (A, R, D) to (A, \\*out)."""
        repeats = counts if isinstance(counts, Tensor) else torch.full_like(self.rows, counts)
        row = self.rows.repeat_interleave(repeats, output_size=len(x))
        y: Tensor = self.block(x[torch.arange(len(x), device=x.device), row], counts, **side)
        return y

    def parameters_each(self) -> list[float]:
        """(E) those of the block."""
        return self.block.parameters_each()
