"""Point-MoE: a point transformer whose attention ends in a mixture of experts.

Source: "Point-MoE" (arXiv 2505.23926), with the backbone of Point Transformer V3 (Wu et al. 2024): cells in
the order of space-filling curves, attention in patches of them, a hierarchy of grids. The mixture stands in
place of attention's output projection, and no router is told which sensor a cloud is of. Ours: sizes for two
cores, a depthwise convolution over the 27 cells around for position, layer norms, and a linear head in place
of embedded class names.

Legend: T cells, B clouds, F features, D width, K cells of a patch, H heads, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from collegium import Context, check_needs
from torch import Tensor, nn
from torch.nn import functional as F

from apps.common.controls import DenseFFN, MixtureFFN, feed_forward
from apps.pointcloud.around import around
from apps.pointcloud.levels import Level

NORM = ("weight", "bias")
HEAD = 16
"""Width of a head of attention."""
GIVEN = ("segment",)
"""What routers may ask of a cell beside its vector: of which cloud of the batch it is. Its domain stands in
the context as well, for reports; a router that asks for it is refused."""


class Points(NamedTuple):
    """Cells of B clouds, one after the other.

    features: (T, F) float32; cell: (T, 3) int64; cloud: (T,) int64 ascending; domain: (B,) int64; classes:
    (B, C) bool, those that a cloud's labels may be.
    """

    features: Tensor
    cell: Tensor
    cloud: Tensor
    domain: Tensor
    classes: Tensor


class Attention(nn.Module):
    """Attention inside patches; what it gives is projected by a block of its own.

    Args:
        dim: D.
        heads: H.
        project: D -> the output projection, routed or dense.
    """

    def __init__(self, dim: int, heads: int, project: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.heads = heads
        self.read = nn.Linear(dim, 3 * dim)
        self.project = project(dim)

    def forward(self, x: Tensor, patches: Tensor, context: Context) -> Tensor:
        """(T, D) to (T, D).

        Args:
            x: (T, D).
            patches: (P, K) cells, -1 where there is none.
            context: of the cells.
        """
        P, K = patches.shape
        there = patches >= 0
        parts = self.read(x)[patches.clamp(min=0)].view(P, K, 3, self.heads, -1)
        query, keys, values = parts.permute(2, 0, 3, 1, 4)
        mask = None if bool(there.all()) else there[:, None, None]
        y = F.scaled_dot_product_attention(query, keys, values, mask).transpose(1, 2).flatten(2)
        heard = torch.empty_like(x).index_copy(0, patches[there], y[there])
        return feed_forward(self.project, heard, context)[0]


class Around(nn.Module):
    """A convolution over the cells around, each channel by itself, with a skip.

    Args:
        dim: D.
        norm: D -> a norm of cells.
    """

    def __init__(self, dim: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(27, dim) / 27**0.5)
        self.mix, self.norm = nn.Linear(dim, dim), norm(dim)

    def forward(self, x: Tensor, level: Level, points: Points) -> Tensor:
        """(T, D) to (T, D)."""
        heard = around(x, self.weight, level.beside())
        return x + normed(self.norm, self.mix(heard), level, points)


class Block(nn.Module):
    """Position, attention and a feed-forward block, each with a skip.

    Args:
        dim: D.
        heads: H.
        project: D -> attention's output projection.
        feed: D -> the feed-forward block.
        norm: D -> a norm of cells.
        curve: number of the curve along which patches lie.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        project: Callable[[int], nn.Module],
        feed: Callable[[int], nn.Module],
        norm: Callable[[int], nn.Module],
        curve: int,
    ) -> None:
        super().__init__()
        self.around = Around(dim, norm)
        self.attention = Attention(dim, heads, project)
        self.feed, self.curve = feed(dim), curve
        self.norms = nn.ModuleList([norm(dim), norm(dim)])

    def forward(self, x: Tensor, level: Level, points: Points) -> Tensor:
        """(T, D) to (T, D)."""
        x = self.around(x, level, points)
        context = Context(segment=level.cloud, domain=points.domain[level.cloud])
        y = normed(self.norms[0], x, level, points)
        x = x + self.attention(y, level.patches(self.curve), context)
        y, _ = feed_forward(self.feed, normed(self.norms[1], x, level, points), context)
        return x + torch.as_tensor(y)


class TwiceAsWide(DenseFFN):
    """A dense feed-forward block of hidden width 2 D.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 2 * dim)


class Blocks(nn.Module):
    """Some blocks, one after the other."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, level: Level, points: Points) -> Tensor:
        """(T, D) to (T, D)."""
        for block in self.blocks:
            x = block(x, level, points)
        return x


class DomainNorm(nn.Module):
    """A layer norm with a scale and a shift of its own for each domain, which it must be told.

    As in Point Prompt Training (Wu et al. 2024), the upper control of what routing finds out by itself.

    Args:
        dim: D.
        domains: how many there are.
    """

    def __init__(self, dim: int, domains: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(domains))

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        """(T, D), and the domain of each cell (T,)."""
        scale, shift = (torch.stack([getattr(norm, name) for norm in self.norms]) for name in NORM)
        return F.layer_norm(x, x.shape[1:]) * scale[domain] + shift[domain]


class PointMoE(nn.Module):
    """Features of cells to a score for each class.

    It goes down to coarser grids and back up, with skips. It is built when features and classes are known.

    Args:
        dims: D of each level, the finest first, multiples of `HEAD`.
        depth: blocks of a level on the way down; on the way up there is one.
        patch: K.
        project: D -> attention's output projection of each block.
        feed: D -> the feed-forward block of each.
        told_domain: give each domain norms of its own (DomainNorm).
        dropout: of the features behind the last block.
    """

    def __init__(
        self,
        dims: Sequence[int] = (32, 64, 96),
        depth: int = 1,
        patch: int = 64,
        project: Callable[[int], nn.Module] = MixtureFFN,
        feed: Callable[[int], nn.Module] = TwiceAsWide,
        told_domain: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if any(dim % HEAD for dim in dims):
            raise ValueError(f"dims={list(dims)} must be multiples of {HEAD}, the width of a head")
        if min(depth, patch) < 1:
            raise ValueError(f"depth={depth} and patch={patch} must be at least 1")
        self.dims, self.depth, self.patch = list(dims), depth, patch
        self.make, self.feed, self.told_domain, self.dropout = project, feed, told_domain, dropout
        self.size: tuple[int, int, int] | None = None

    def build(self, features: int, classes: int, domains: int) -> None:
        """Make the parameters, unless they are there.

        Args:
            features, classes: F and C.
            domains: how many there are, for those that are told.

        Raises:
            ValueError: a router that asks for what this model does not give.
        """
        if self.size is not None:
            return
        norm: Callable[[int], nn.Module] = nn.LayerNorm
        if self.told_domain:
            norm = partial(DomainNorm, domains=domains)
        finer = list(zip(self.dims, self.dims[1:], strict=False))

        def blocks(dim: int, depth: int, first: int) -> Blocks:
            heads, curves = dim // HEAD, range(first, first + depth)
            return Blocks(Block(dim, heads, self.make, self.feed, norm, curve) for curve in curves)

        self.embed = nn.Linear(features, self.dims[0])
        self.down = nn.ModuleList(blocks(dim, self.depth, i) for i, dim in enumerate(self.dims))
        self.pool = nn.ModuleList(nn.Linear(low, high) for low, high in finer)
        self.skip = nn.ModuleList(nn.Linear(low, low) for low, _ in finer)
        self.unpool = nn.ModuleList(nn.Linear(high, low) for low, high in finer)
        self.up = nn.ModuleList(blocks(low, 1, i + 2) for i, (low, _) in enumerate(finer))
        self.norm, self.head = norm(self.dims[0]), nn.Linear(self.dims[0], classes)
        check_needs(self, GIVEN)
        self.size = (features, classes, domains)

    def forward(self, points: Points) -> Tensor:
        """Scores (T, C), minus infinity for classes that a cloud's labels cannot be."""
        scores: Tensor = self.head(self.states(points))
        return scores.masked_fill(~points.classes[points.cloud], -torch.inf)

    def states(self, points: Points) -> Tensor:
        """(T, D) what is known of each cell behind the last block."""
        level = Level(points.cell, points.cloud, self.patch)
        x = self.embed(points.features)
        left: list[tuple[Level, Tensor, Tensor]] = []
        for i, blocks in enumerate(self.down):
            x = blocks(x, level, points)
            if i < len(self.pool):
                coarse, of = level.coarser()
                left.append((level, x, of))
                x = pooled(self.pool[i](x), of, len(coarse.cell))
                level = coarse
        for i in reversed(range(len(self.pool))):
            level, fine, of = left.pop()
            x = self.skip[i](fine) + self.unpool[i](x)[of]
            x = self.up[i](x, level, points)
        return F.dropout(normed(self.norm, x, level, points), self.dropout, self.training)


def normed(norm: nn.Module, x: Tensor, level: Level, points: Points) -> Tensor:
    """Cells (T, D) by a norm, which may have to be told their domains."""
    y: Tensor = norm(x, points.domain[level.cloud]) if isinstance(norm, DomainNorm) else norm(x)
    return y


def pooled(x: Tensor, of: Tensor, number: int) -> Tensor:
    """The greatest of each channel over the cells (T, D) of each coarser one, (number, D)."""
    return x.new_zeros(number, x.shape[1]).scatter_reduce(
        0, of[:, None].expand_as(x), x, "amax", include_self=False
    )
