"""What users took, in order: windows to learn the next item from, and the last items to be told.

Source: the protocol of Kang and McAuley 2018, "Self-Attentive Sequential Recommendation", section IV: of each
user the last item is for test, the one before for validation, all others for training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from apps.recsys.encoding import Encoded
from apps.recsys.impressions import Part

UNSEEN = 1
"""The id of all items that were not in training; 0 stands in front of the first."""
FIRST = 2
"""The first id of a known item."""
HELD_OUT: tuple[Part, ...] = ("validation", "test")
"""Parts in which the last item of each window is to be ranked."""
SHORTEST = 3
"""Users with fewer items are learned from, and not measured."""


class Walk(NamedTuple):
    """Some users' items, in order.

    profile: what is known of the users; items: (B, L + 1) int64, the last to be told of those before, 0 in
    front; liked: (B, L + 1) float32, the label of each, NaN where not known; seen: (B, M) int64, all that the
    user took before the last item, which is not to be told again, 0 behind; of no width in training.
    """

    profile: Encoded
    items: Tensor
    liked: Tensor
    seen: Tensor

    @property
    def history(self) -> Tensor:
        """(B, L) all but the last; where there is none, one unseen item, as something must be read."""
        past = self.items[:, :-1]
        none = past[:, -1:] == 0
        return torch.cat([past[:, :-1], torch.where(none, UNSEEN, past[:, -1:])], 1)

    @property
    def target(self) -> Tensor:
        """(B,) the last."""
        return self.items[:, -1]


@dataclass
class Walks(Dataset[Walk]):
    """Windows by number, whole batches at once.

    walk: of all windows; user: (N,) numbers of users; activity: (N,) training items of the user.
    """

    walk: Walk
    user: np.ndarray
    activity: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def __getitems__(self, rows: Sequence[int] | Tensor) -> Walk:
        """Read some windows."""
        places = torch.as_tensor(rows)
        return Walk(self.walk.profile.take(places), *(part[places] for part in self.walk[1:]))


def in_order(user: np.ndarray, item: np.ndarray, order: np.ndarray) -> list[np.ndarray]:
    """Of each user the numbers of the rows, the earliest first, each item the first time that it is taken.

    What comes again would be told from itself, and is nothing to recommend. Rows of nobody or of no item are
    left out.

    Args:
        user, item: (N,) numbers from 0, -1 where blank.
        order: (N,) numbers of the rows, the earliest first.
    """
    ordered = order[(user[order] >= 0) & (item[order] >= 0)]
    pairs = user[ordered] * (int(item.max(initial=0)) + 1) + item[ordered]
    ordered = ordered[np.sort(np.unique(pairs, return_index=True)[1])]
    by_user = ordered[np.argsort(user[ordered], kind="stable")]
    ends = np.bincount(user[by_user], minlength=int(user.max(initial=-1)) + 1).cumsum()
    return np.split(by_user, ends[:-1]) if len(ends) else []


def split_last(rows: Sequence[np.ndarray]) -> dict[Part, list[np.ndarray]]:
    """Of each user the rows of each part: those before the one that is to be told, and it.

    Of training all but the last two, of a user with fewer than `SHORTEST` all.
    """
    long = [own for own in rows if len(own) >= SHORTEST]
    return {
        "train": [own[:-2] if len(own) >= SHORTEST else own for own in rows],
        "validation": [own[:-1] for own in long],
        "test": list(long),
    }


def windows(rows: Sequence[np.ndarray], length: int) -> list[np.ndarray]:
    """Of each user's rows stretches of up to length + 1, so that each but the first is told once."""
    found = []
    for own in rows:
        end = len(own)
        while end >= 2:
            found.append(own[max(0, end - length - 1) : end])
            end -= length
    return found


def walk_of(
    rows: Sequence[np.ndarray],
    item: np.ndarray,
    liked: np.ndarray,
    profile: Encoded,
    length: int,
    measured: bool,
) -> Walk:
    """Rows of each window as ids, zeros in front.

    Args:
        rows: numbers of the rows of each window, at least one, the earliest first.
        item, liked: (N,) of the rows of the log.
        profile: of the user of each window.
        length: L.
        measured: whether the last row is to be ranked among what the user has not seen.
    """
    most = max((len(own) - 1 for own in rows), default=0) if measured else 0
    seen = np.zeros((len(rows), most), dtype=np.int64)
    items = np.zeros((len(rows), length + 1), dtype=np.int64)
    labels = np.full((len(rows), length + 1), np.nan, dtype=np.float32)
    for place, own in enumerate(rows):
        last = own[-length - 1 :]
        items[place, length + 1 - len(last) :] = item[last]
        labels[place, length + 1 - len(last) :] = liked[last]
        if measured:
            seen[place, : len(own) - 1] = item[own[:-1]]
    return Walk(profile, *map(torch.from_numpy, (items, labels, seen)))


def constant_within(frame: pd.DataFrame, key: str, names: Sequence[str]) -> list[str]:
    """The columns that have one value for each value of a key: of a user, or of an item."""
    groups = frame[[key, *[name for name in names if name != key]]].groupby(key, observed=True, dropna=True)
    return [name for name in names if name != key and int(groups[name].nunique(dropna=False).max()) <= 1]
