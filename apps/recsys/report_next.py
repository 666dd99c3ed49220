"""The pictures of a recommender's report."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from collegium import record

from apps.common.plots import COLORS, ExpertMap, expert_maps, panels, shares_by
from apps.common.report import Section
from apps.recsys.data import Data
from apps.recsys.metrics import hits
from apps.recsys.ranked import TOP, Ranked, fame_of, ranked
from apps.recsys.recommender import Recommender
from apps.recsys.scored import SEGMENTS
from apps.recsys.sequences import FIRST, Walks

LOOKED_AT = 512
DEEPEST = 100
BINS = 6


def sections(network: Recommender, data: Data, split: Literal["validation", "test"]) -> list[Section]:
    """How deep the item that came lies, who is served well, what is recommended, and whom routers ask."""
    walks = data.walks(split)
    fame = fame_of(data.walks("train"), len(data.catalogue))
    found = ranked(network.scores, walks, fame)
    return [_depth(found), _tail(found), _popularity(found, fame), *_experts(network, walks)]


def _depth(found: Ranked) -> Section:
    figure, (axes,) = panels(1, columns=1, width=5)
    depth = np.arange(1, DEEPEST + 1)
    axes.plot(depth, [hits(found.rank, int(k)).mean() for k in depth], linewidth=1.4)
    axes.plot(depth, depth / found.items, color="0.6", linewidth=0.8, linestyle="--")
    axes.axvline(TOP, color="0.8", linewidth=0.8)
    axes.set_xlabel("items recommended", fontsize=8)
    axes.set_ylabel("share of users", fontsize=8)
    text = "Share of users whose next item is among the first recommended; dashed: at random."
    return Section("Hits by depth", text, [figure])


def _tail(found: Ranked) -> Section:
    figure, grid = panels(2, columns=2)
    for axes, count, what in ((grid[0], found.activity, "user"), (grid[1], found.fame, "item that came")):
        order = np.array_split(np.argsort(count, kind="stable"), BINS)
        x = [1 + count[part].mean() for part in order if len(part)]
        y = [hits(found.rank[part], TOP).mean() for part in order if len(part)]
        axes.plot(x, y, marker="o", markersize=3)
        axes.set_xscale("log")
        axes.set_xlabel(f"1 + training items of the {what}", fontsize=8)
        axes.set_ylabel(f"HR@{TOP}", fontsize=8)
    text = (
        "Hits by how many items a user has in training, and by how often the item that came was taken there."
    )
    return Section("Long tail", text, [figure])


def _popularity(found: Ranked, fame: np.ndarray) -> Section:
    """Lorenz curves of what is taken and of what is recommended."""
    figure, (axes,) = panels(1, columns=1, width=5)
    shown = np.bincount(found.top.ravel(), minlength=len(fame))[FIRST:]
    for count, name, color in (
        (fame[FIRST:], "taken in training", COLORS[6]),
        (shown, "recommended", COLORS[0]),
    ):
        share = np.sort(count)[::-1].cumsum() / max(count.sum(), 1)
        axes.plot(np.arange(1, len(share) + 1) / len(share), share, label=name, color=color, linewidth=1.4)
    axes.legend(fontsize=7, frameon=False)
    axes.set_xlabel("share of all items, the most frequent first", fontsize=8)
    axes.set_ylabel("share of what they make up", fontsize=8)
    text = (
        "The steeper, the fewer items make up most: recommendations are usually steeper than what was taken."
    )
    return Section("Popularity", text, [figure])


@torch.no_grad()
def _experts(network: Recommender, walks: Walks) -> list[Section]:
    """Experts by thirds of users, of each routed layer that sees equally many tokens of each."""
    items = walks.walk.items
    told = ((items[:, 1:] >= FIRST) & (items[:, :-1] > 0)).any(1)
    rows = told.nonzero()[:LOOKED_AT, 0]
    size = len(rows)
    with torch.random.fork_rng(devices=[]), record(network) as routings:
        torch.manual_seed(0)  # places are drawn
        network.loss(walks.__getitems__(rows))
    order = np.argsort(np.argsort(walks.activity[rows.numpy()], kind="stable"))
    third = order * len(SEGMENTS) // max(size, 1)
    maps = []
    for name, calls in routings.items():
        each, rest = divmod(calls[0].num_tokens, size) if calls else (0, 1)
        if each and not rest:
            share = shares_by(calls[0], torch.from_numpy(third).repeat_interleave(each), len(SEGMENTS))
            maps.append([ExpertMap(f"{name}: expert by user", "training items", SEGMENTS, share)])
    if not maps:
        return []
    text = "Share of each expert in the tokens of users with few, some and many items, over an even share."
    return [Section("Experts by user", text, [expert_maps(maps)])]
