"""Who reads what and who sees whom: MMoE, PLE and HoME as tables of one masked mixture.

Legend: E experts, G gates, K tasks. A level maps an item of some rows to one row a gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Groups = Sequence[Sequence[str]]
"""Names of the tasks of each group."""


@dataclass(frozen=True)
class Level:
    """Experts and gates of one level.

    experts, gates: their names; alone: whether an expert is there for one task; read, look: the row that each
    expert and each gate reads; visible: (G, E);
    own: (G, E) experts that a gate also weighs by themselves, or None; height: rows of the item.
    """

    experts: list[str]
    gates: list[str]
    alone: list[bool]
    read: list[int]
    look: list[int]
    visible: list[list[bool]]
    height: int
    own: list[list[bool]] | None = None


def mmoe(tasks: Sequence[str], experts: int) -> list[Level]:
    """Every gate sees every expert (Ma et al. 2018)."""
    names = [f"expert {e}" for e in range(experts)]
    visible = [[True] * experts for _ in tasks]
    return [Level(names, list(tasks), [False] * experts, [0] * experts, [0] * len(tasks), visible, 1)]


def ple(tasks: Sequence[str], own: int, shared: int, levels: int) -> list[Level]:
    """Experts of each task and common ones, level over level (Tang et al. 2020); one level is CGC.

    Below the top a further gate, which sees all, makes what the common experts above read.
    """
    K = len(tasks)
    owner = [k for k in range(K) for _ in range(own)] + [K] * shared
    names = [f"{tasks[k]} {i}" for k in range(K) for i in range(own)] + [f"shared {i}" for i in range(shared)]
    found = []
    for level in range(levels):
        first, top = level == 0, level == levels - 1
        rows = range(K if top else K + 1)
        visible = [[k == K or who in (k, K) for who in owner] for k in rows]
        look, read = ([0] * len(rows), [0] * len(owner)) if first else (list(rows), owner)
        gates = [*tasks, *([] if top else ["shared"])]
        alone = [who < K for who in owner]
        found.append(Level(names, gates, alone, read, look, visible, 1 if first else K + 1))
    return found


def home(groups: Groups, meta: int, meta_shared: int, own: int, group: int, shared: int) -> list[Level]:
    """A hierarchy over groups of tasks (HoME, Wang et al. 2024, section 3.2).

    Below, each group has experts of its own and common ones, and the common ones make a row by themselves.
    Above, a task sees its own experts, those of its group, and common ones; a gate, and the experts of a task
    or a group, read the row of that group with the common row beside it. Each gate weighs its own experts
    also by themselves.

    Args:
        groups: names of the tasks of each.
        meta, meta_shared: experts of each group and common ones, below.
        own, group, shared: experts of each task, of each group, and common ones, above.
    """
    G = len(groups)
    below = [g for g in range(G) for _ in range(meta)] + [G] * meta_shared
    first = Level(
        [f"group {g}: {i}" for g in range(G) for i in range(meta)]
        + [f"shared {i}" for i in range(meta_shared)],
        [*(f"group {g}" for g in range(G)), "shared"],
        [False] * len(below),
        [0] * len(below),
        [0] * (G + 1),
        [[who in (g, G) for who in below] for g in range(G + 1)],
        1,
        [[who == g for who in below] for g in range(G + 1)],
    )
    tasks = [(name, g) for g, names in enumerate(groups) for name in names]
    above = [(name, g) for name, g in tasks for _ in range(own)]
    above += [("", g) for g in range(G) for _ in range(group)] + [("", G)] * shared
    second = Level(
        [f"{name} {i}" for name, _ in tasks for i in range(own)]
        + [f"group {g}: {i}" for g in range(G) for i in range(group)]
        + [f"shared {i}" for i in range(shared)],
        [name for name, _ in tasks],
        [bool(name) for name, _ in above],
        [g for _, g in above],
        [g for _, g in tasks],
        [[who == name or (not who and at in (g, G)) for who, at in above] for name, g in tasks],
        G + 1,
        [[who == name for who, _ in above] for name, _ in tasks],
    )
    return [first, second]
