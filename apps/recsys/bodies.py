"""What lies between features and towers: one row a task, by a common bottom, MMoE, PLE or HoME.

Legend: B rows of a batch, D width of the features, R rows of an item, K tasks, H width of an expert's output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from collegium import MoE
from collegium.experts import MLP, Experts, FeatureGate, NormAct, RowExperts
from collegium.routers import AllExperts, MultiGate, Router
from torch import Tensor, nn
from torch.nn import functional as F

from apps.common.controls import of_one_output
from apps.recsys.levels import Groups, Level, home, mmoe, ple

Gate = Callable[[int, int], Router]


class Body(nn.Module):
    """Features (B, D) to one row a task (B, K, H).

    Args:
        width: D.
        groups: names of the tasks of each group; tasks come in that order.
        out: H.
    """

    def __init__(self, width: int, groups: Groups, out: int) -> None:
        super().__init__()
        self.width, self.out = width, out
        self.tasks = [name for names in groups for name in names]


class SharedBottom(Body):
    """One perceptron for all tasks (Caruana 1997).

    Args:
        width, groups: see Body.
        hidden: width inside.
        out: H.
    """

    def __init__(self, width: int, groups: Groups, hidden: int = 128, out: int = 64) -> None:
        super().__init__(width, groups, out)
        self.bottom = NormAct(MLP(width, 1, hidden, "relu", out), out, norm=False, act="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, K, H)."""
        y: Tensor = self.bottom(x, len(x))
        return y[:, None].expand(-1, len(self.tasks), -1)


class Mixture(Body):
    """Levels of experts, each with several gates.

    Args:
        width, groups, out: see Body; every level but the last has outputs of `out`, too.
        levels: who reads what and who sees whom.
        hidden: width inside an expert.
        router: (width, experts that a gate sees) -> how it weighs them.
        norm: whether experts are HoME's, with batch norm and SiLU, or end with ReLU.
        rank: of the gate on an expert's features; 0 for none.
    """

    def __init__(
        self,
        width: int,
        groups: Groups,
        levels: Sequence[Level],
        hidden: int,
        out: int,
        router: Gate,
        norm: bool = False,
        rank: int = 0,
    ) -> None:
        super().__init__(width, groups, out)
        self.levels = list(levels)
        self.joined = any(level.own is not None for level in levels)
        layers = []
        for level in levels:
            dim = width if level.height == 1 else 2 * out if self.joined else out
            block = experts(dim, len(level.experts), hidden, out, norm, rank)
            above = level.height > 1
            gates = MultiGate(
                dim * level.height,
                len(level.experts),
                len(level.gates),
                level.visible,
                level.look if above else None,
                one_gate(router),
                level.height if above else None,
                level.own,
            )
            layers.append(MoE(gates, RowExperts(block, level.read) if above else block))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, K, H)."""
        for level, layer in zip(self.levels, self.layers, strict=True):
            x = layer(join(x) if self.joined and level.height > 1 else x)
        return x


class MMoE(Mixture):
    """Multi-gate mixture of experts (Ma et al. 2018).

    Args:
        width, groups, hidden, out, router: see Mixture.
        experts: E.
    """

    def __init__(
        self,
        width: int,
        groups: Groups,
        experts: int = 6,
        hidden: int = 64,
        out: int = 64,
        router: Gate = AllExperts,
    ) -> None:
        levels = mmoe([name for names in groups for name in names], experts)
        super().__init__(width, groups, levels, hidden, out, router)


class PLE(Mixture):
    """Progressive layered extraction (Tang et al. 2020).

    Args:
        width, groups, hidden, out, router: see Mixture.
        own, shared: experts of each task, and common ones, on each level.
        depth: levels; one is CGC.
    """

    def __init__(
        self,
        width: int,
        groups: Groups,
        own: int = 1,
        shared: int = 2,
        depth: int = 2,
        hidden: int = 64,
        out: int = 64,
        router: Gate = AllExperts,
    ) -> None:
        levels = ple([name for names in groups for name in names], own, shared, depth)
        super().__init__(width, groups, levels, hidden, out, router)


class HoME(Mixture):
    """Hierarchy of multi-gate experts (Wang et al. 2024).

    Args:
        width, groups, hidden, out, router, rank: see Mixture.
        meta, meta_shared: experts of each group, and common ones, below.
        own, group, shared: experts of each task, of each group, and common ones, above.
    """

    def __init__(
        self,
        width: int,
        groups: Groups,
        meta: int = 2,
        meta_shared: int = 4,
        own: int = 1,
        group: int = 2,
        shared: int = 2,
        hidden: int = 32,
        out: int = 64,
        rank: int = 4,
        router: Gate = AllExperts,
    ) -> None:
        levels = home(groups, meta, meta_shared, own, group, shared)
        super().__init__(width, groups, levels, hidden, out, router, norm=True, rank=rank)


def experts(dim: int, number: int, hidden: int, out: int, norm: bool, rank: int) -> Experts:
    """A block of experts, of HoME's kind or of MMoE's."""
    act = "silu" if norm else "relu"
    block: Experts = NormAct(MLP(dim, number, hidden, act, out), out, norm=norm, act=act)  # type: ignore[arg-type]
    return FeatureGate(block, dim, rank) if rank else block


def one_gate(router: Gate) -> Gate:
    """The router of one gate of many. Raises ValueError at a call, for one of several outputs."""
    return lambda dim, number: of_one_output(router(dim, number))


def join(rows: Tensor) -> Tensor:
    """Rows (B, G + 1, H) of groups and a common one to (B, G + 1, 2 H): the common one beside each group.

    Above, the common row stands alone, so that a task hears nothing of other groups.
    """
    groups, common = rows[:, :-1], rows[:, -1:]
    beside = torch.cat([groups, common.expand_as(groups)], -1)
    return torch.cat([beside, F.pad(common, (common.shape[-1], 0))], 1)
