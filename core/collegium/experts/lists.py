"""Experts of any kind, side by side."""

from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from collegium.experts.base import Experts, rows_of


class ExpertList(Experts):
    """Any modules as experts, each run on its own rows.

    An expert without rows still runs on zero rows, so that its parameters get a (zero) gradient on every rank
    of distributed training.

    Args:
        modules: E modules (n, \\*item) -> (n, \\*out) with the same ``out``.
        item_ndim: see Experts.

    >>> block = ExpertList([nn.Linear(16, 3), nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 3))])
    >>> block(torch.randn(10, 16), torch.tensor([4, 6])).shape
    torch.Size([10, 3])
    """

    def __init__(self, modules: Iterable[nn.Module], item_ndim: int = 1) -> None:
        modules = list(modules)
        super().__init__(len(modules), item_ndim)
        self.experts = nn.ModuleList(modules)

    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Rows (A, \\*item) to (A, \\*out)."""
        parts = zip(self.experts, x.split(rows_of(counts, self.num_experts)), strict=True)
        return torch.cat([expert(part) for expert, part in parts])

    def parameters_each(self) -> list[float]:
        """(E) parameters of each module."""
        return [sum(p.numel() for p in expert.parameters()) for expert in self.experts]


class ExpertGroups(Experts):
    """Several blocks as one: experts 0..E1-1 are the first block's, and so on (MoE++, Jin et al. 2024).

    Args:
        blocks: Experts blocks of the same item and output shape.

    Raises:
        ValueError: there is no block, or their items differ in dims or width.

    >>> from collegium.experts import MLP, Copy, Zero
    >>> block = ExpertGroups([MLP(16, 6, hidden=32), Zero(1), Copy(1)])
    >>> block.num_experts
    8
    """

    def __init__(self, blocks: Iterable[Experts]) -> None:
        blocks = list(blocks)
        super().__init__(sum(block.num_experts for block in blocks), blocks[0].item_ndim if blocks else 1)
        self.blocks = nn.ModuleList(blocks)
        self.sizes = [block.num_experts for block in blocks]
        self.needs = tuple(sorted({name for block in blocks for name in block.needs}))
        if any(block.item_ndim != self.item_ndim for block in blocks):
            raise ValueError("ExpertGroups wants blocks with the same item_ndim")
        widths = {block.dim for block in blocks if block.dim is not None}
        if len(widths) > 1:
            raise ValueError(f"ExpertGroups wants blocks of one width, not of {sorted(widths)}")
        self.dim = next(iter(widths), None)

    def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
        """Rows (A, \\*item) to (A, \\*out)."""
        rows = rows_of(counts, self.num_experts)
        ends = [0, *accumulate(self.sizes)]
        sizes = [sum(rows[a:b]) for a, b in pairwise(ends)]
        parts = x.split(sizes)
        sides = {name: value.split(sizes) for name, value in side.items()}
        out = []
        for i, block in enumerate(self):
            block_counts = counts[ends[i] : ends[i + 1]] if isinstance(counts, Tensor) else counts
            own = {name: sides[name][i] for name in block.needs}
            out.append(block(parts[i], block_counts, **own))
        return torch.cat(out)

    def parameters_each(self) -> list[float]:
        """(E) parameters of each block's experts in turn."""
        return [size for block in self for size in block.parameters_each()]

    def __iter__(self) -> Iterator[Experts]:
        return iter(cast(Iterable[Experts], self.blocks))
