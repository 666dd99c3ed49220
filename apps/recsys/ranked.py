"""What a recommender says of held-out items, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apps.recsys.metrics import coverage, hits, ndcg
from apps.recsys.scored import SEGMENTS
from apps.recsys.sequences import FIRST, Walk, Walks

CHUNK = 256
TOP = 10


@dataclass
class Ranked:
    """Users whose last item is held out.

    rank: (U,) its place among all items that they did not take before, infinite where it is not among them;
    top: (U, TOP) ids of the items that come first, 0 where none are left; activity: (U,) training items of
    the user; fame: (U,) training items that are the one held out; liked: (U,) the label of the item held
    out, NaN where not known; user: (U,) their numbers; items: how many there are.
    """

    rank: np.ndarray
    top: np.ndarray
    activity: np.ndarray
    fame: np.ndarray
    liked: np.ndarray
    user: np.ndarray
    items: int

    def only(self, rows: np.ndarray) -> Ranked:
        """Some users."""
        rank, top, activity = self.rank[rows], self.top[rows], self.activity[rows]
        return Ranked(rank, top, activity, self.fame[rows], self.liked[rows], self.user[rows], self.items)


@torch.no_grad()
def ranked(ask: Callable[[Walk], Tensor], walks: Walks, fame: np.ndarray) -> Ranked:
    """Ask for the scores of all items for all users.

    Args:
        ask: windows to scores (B, I).
        walks: of users whose last item is held out.
        fame: (I,) how often each item came in training.
    """
    ranks, tops = [], []
    for rows in torch.split(torch.arange(len(walks)), CHUNK):
        walk = walks.__getitems__(rows)
        scores = unseen_only(ask(walk), walk)
        ranks.append(ranks_of(scores, walk.target).numpy())
        best = scores.topk(min(TOP, scores.shape[1]), 1)
        tops.append(best.indices.where(best.values > -torch.inf, 0).numpy())
    target, liked = walks.walk.target.numpy(), walks.walk.liked[:, -1].numpy()
    rank, top = np.concatenate(ranks), np.concatenate(tops)
    return Ranked(rank, top, walks.activity, fame[target], liked, walks.user, len(fame) - FIRST)


def unseen_only(scores: Tensor, walk: Walk) -> Tensor:
    """Scores (B, I), minus infinity for what the user took before."""
    return scores.scatter(1, walk.seen, -torch.inf)


def ranks_of(scores: Tensor, target: Tensor) -> Tensor:
    """(B,) float64 place of each target, 1 the first; ties count half; infinite where it cannot be, or where
    scores are no numbers."""
    own = scores.gather(1, target[:, None])
    above, level = (scores > own).sum(1), (scores == own).sum(1) - 1
    nowhere = own[:, 0].isneginf() | scores.isnan().any(1)
    return torch.where(nowhere, torch.inf, 1 + above + level.double() / 2)


def fame_of(walks: Walks, items: int) -> np.ndarray:
    """(I,) how often each item came in training, in windows of which each begins with the item that the one
    before it ended with."""
    ids = walks.walk.items.numpy()
    _, ends = np.unique(walks.user[::-1], return_index=True)
    begins = ids[len(ids) - 1 - ends, 0]  # a user's windows are the newest first
    counts = np.bincount(ids[:, 1:].ravel(), minlength=items) + np.bincount(begins, minlength=items)
    return counts * (np.arange(items) >= FIRST)


def parts(found: Ranked) -> Iterator[tuple[str, Ranked]]:
    """All users, and thirds of them by how many items they, and the held-out item, have in training."""
    yield "all", found
    for what, count in (("user", found.activity), ("item", found.fame)):
        third = np.searchsorted(np.quantile(count, [1 / 3, 2 / 3]), count, side="left")
        if len(np.unique(third)) == len(SEGMENTS):
            yield from ((f"{what}, {name} rows", found.only(third == i)) for i, name in enumerate(SEGMENTS))


def hits_of(found: Ranked, label: int) -> float:
    """Share of hits among the users whose held-out item has a label; NaN where there is none."""
    own = found.liked == label
    return float(hits(found.rank[own], TOP).mean()) if own.any() else float("nan")


def measured(name: str, found: Ranked) -> dict[str, Any]:
    """A row of metrics."""
    return {
        "slice": name,
        "users": len(found.rank),
        f"hr_{TOP}": float(hits(found.rank, TOP).mean()),
        f"ndcg_{TOP}": float(ndcg(found.rank, TOP).mean()),
        f"hr_{TOP}_liked": hits_of(found, 1),
        f"hr_{TOP}_not": hits_of(found, 0),
        "mrr": float((1 / found.rank).mean()),
        f"coverage_{TOP}": coverage(found.top, found.items),
    }
