"""Rows of a log that were shown to somebody, each with its labels: split, encoded, with what came before."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from apps.common.errors import UserError
from apps.recsys.encoding import Encoded
from apps.recsys.times import moment, moments

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
SHARES = (0.7, 0.85)
"""Where validation and test rows begin, in time or at random."""
Split = Literal["time", "random"]


class Batch(NamedTuple):
    """Rows of a log.

    rows: their features; history: (B, L) int64, the last items that the user took before, the latest last, 0
    in front of the first; item: (B,) int64; labels: (B, K) float32, NaN where not known.
    """

    rows: Encoded
    history: Tensor
    item: Tensor
    labels: Tensor


@dataclass
class Impressions(Dataset[Batch]):
    """Rows by number, whole batches at once.

    user: (N,) int64, -1 where nobody is told; activity, fame: (N,) training rows of the user and of the item.
    """

    batch: Batch
    user: np.ndarray
    activity: np.ndarray
    fame: np.ndarray

    def __len__(self) -> int:
        return len(self.batch.labels)

    def __getitems__(self, rows: Sequence[int] | Tensor) -> Batch:
        """Read some rows."""
        places = torch.as_tensor(rows)
        whole = self.batch
        return Batch(whole.rows.take(places), *(part[places] for part in whole[1:]))

    def only(self, rows: np.ndarray) -> Impressions:
        """Those rows."""
        return Impressions(
            self.__getitems__(torch.from_numpy(rows)), self.user[rows], self.activity[rows], self.fame[rows]
        )


def parts_of(
    frame: pd.DataFrame,
    time: str | None,
    split: Split | None,
    cut: Sequence[Any] | None,
    generator: np.random.Generator,
    source: str,
) -> dict[Part, np.ndarray]:
    """Rows (numbers, ascending) of each part.

    By time where there is one, else at random: 70% training, 15% validation, 15% test.

    Args:
        frame: the log.
        time: the column of the time.
        split: the one or the other.
        cut: two times, at which validation and test begin, in place of shares.
        generator: of the order, where it is at random.
        source: of the log, for messages.

    Raises:
        UserError: a split by time of a log without one, a time that is none, or a part without rows.
    """
    split = split or ("time" if time else "random")
    if split == "time" and time is None:
        raise UserError(
            f"{source}: the schema names no time to split by: name it, or use --data.split random."
        )
    if split == "random":
        order: np.ndarray = np.asarray(generator.permutation(len(frame)))
        ends = [int(share * len(frame)) for share in SHARES]
    else:
        when = moments(frame[str(time)], source)
        order = np.argsort(when, kind="stable")
        ends = [int(share * len(frame)) for share in SHARES]
        if cut is not None:
            if len(cut) != 2:
                raise UserError("data.cut must be two times, at which validation and test begin.")
            ends = [int(np.searchsorted(when[order], moment(one, when, source))) for one in cut]
            if ends[0] > ends[1]:
                raise UserError(f"data.cut is {list(cut)}: give the earlier time first.")
    found = dict(zip(PARTS, (np.sort(rows) for rows in np.split(order, ends)), strict=True))
    empty = [part for part, rows in found.items() if not len(rows)]
    if empty:
        raise UserError(f"{source} leaves no rows for {empty[0]}: add rows, or move --data.cut.")
    return found


def halved(rows: int, held: int, generator: np.random.Generator) -> dict[Part, np.ndarray]:
    """Rows of each part: of the last ones, which are held out, halves at random for validation and test."""
    halves = np.split(rows - held + generator.permutation(held), [held // 2])
    return dict(zip(PARTS, [np.arange(rows - held), *(np.sort(half) for half in halves)], strict=True))


def counts_of(codes: np.ndarray, train: np.ndarray) -> np.ndarray:
    """(N,) how many of the training rows have the code of each row; 0 for a code below 0."""
    counts = np.bincount(codes[train][codes[train] >= 0], minlength=int(codes.max(initial=0)) + 1)
    return np.where(codes >= 0, counts[codes], 0)


def histories(
    user: np.ndarray, item: np.ndarray, taken: np.ndarray, moment: np.ndarray, length: int
) -> tuple[np.ndarray, dict[int, list[int]]]:
    """(N, L) the last items that each row's user took in rows before it, and those of each user at the end.

    Rows of one user at one moment do not know of each other.

    Args:
        user, item: (N,) int64; a user of -1 has no history.
        taken: (N,) whether the item counts.
        moment: (N,) when each row was.
        length: L.
    """
    found = np.zeros((len(user), length), dtype=np.int64)
    latest: dict[int, deque[int]] = defaultdict(lambda: deque(maxlen=max(length, 1)))
    now: dict[int, tuple[float, list[int]]] = {}
    for row in np.argsort(moment, kind="stable").tolist() if length else []:
        if (who := int(user[row])) < 0:
            continue
        when, held = now.get(who, (moment[row], []))
        if moment[row] != when:
            latest[who].extend(held)
            held = []
        before = latest[who]
        if before:
            found[row, length - len(before) :] = before
        now[who] = moment[row], [*held, int(item[row])] if taken[row] else held
    for who, (_, held) in now.items():
        latest[who].extend(held)
    return found, {who: list(before) for who, before in latest.items() if before}
