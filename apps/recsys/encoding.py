"""Cells as numbers: values by a vocabulary, numbers by bins and by their place among those of training."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from apps.common.errors import UserError
from apps.recsys.columns import Schema, separator

MISSING, FIRST = 0, 1
"""The id of a blank cell, and the first of those that rare and unseen values share."""
MOST_TAGS = 20
"""Values of one cell that are read, the last ones."""


class Encoded(NamedTuple):
    """Rows as numbers.

    ids: (N, C) int64, of categories and of the bins of numbers; values: (N, V) float32, places of numbers
    from -1 to 1, 0 where blank; tags: (N, G, M) int64, 0 where there is none.
    """

    ids: Tensor
    values: Tensor
    tags: Tensor

    def take(self, rows: Any) -> Encoded:
        """Some rows."""
        return Encoded(*(part[rows] for part in self))


class Sizes(NamedTuple):
    """How many ids each column of categories, bins and tags has, and how many numbers there are."""

    ids: list[int]
    values: int
    tags: list[int]


@dataclass
class Vocabulary:
    """Values by number: blank, then `buckets` ids that rare and unseen values share, then the known ones.

    Args:
        known: values in the order of their ids.
        buckets: a value that is not known goes to one of these by its hash.
    """

    known: list[str]
    buckets: int = 1

    def __post_init__(self) -> None:
        self._places = {value: FIRST + self.buckets + i for i, value in enumerate(self.known)}

    @classmethod
    def of(
        cls, column: pd.Series[Any], least: int = 1, most: int | None = None, buckets: int = 1
    ) -> Vocabulary:
        """The values that come `least` times, the `most` frequent of them; equally frequent ones sorted."""
        codes, values = coded(column)
        counts: Counter[str] = Counter()
        for value, count in zip(values, np.bincount(codes[codes >= 0], minlength=len(values)), strict=True):
            if value is not None:
                counts[value] += int(count)
        order = sorted((value for value in counts if counts[value] >= least), key=lambda v: (-counts[v], v))
        return cls(order[:most], buckets)

    def __len__(self) -> int:
        return FIRST + self.buckets + len(self.known)

    def encode(self, column: pd.Series[Any]) -> np.ndarray:
        """(N,) int64, 0 where blank."""
        codes, values = coded(column)
        ids = [MISSING if value is None else self._id(value) for value in values]
        return np.asarray(np.array([*ids, MISSING], dtype=np.int64)[codes])

    def name(self, number: int) -> str:
        """The value of an id of a known one."""
        return self.known[number - FIRST - self.buckets]

    def unseen(self, column: pd.Series[Any]) -> float:
        """The share of cells that hold something else than the known values."""
        codes, values = coded(column)
        new = np.array([value is not None and value not in self._places for value in values] + [False])
        return float(new[codes].mean())

    def _id(self, value: str) -> int:
        found = self._places.get(value)
        return FIRST + zlib.crc32(value.encode()) % self.buckets if found is None else found


@dataclass
class Bins:
    """Numbers by the quantiles of training between which they lie.

    Half of them are those of unlike numbers: where most are zero, the others are told apart, too.

    edges: ascending, unlike one another.
    """

    edges: list[float]

    @classmethod
    def of(cls, numbers: np.ndarray, bins: int) -> Bins:
        """Of numbers (N,), blanks left out."""
        known = numbers[np.isfinite(numbers)]
        if not len(known):
            return cls([0.0])
        shares = np.linspace(0, 1, bins // 2 + 1)
        edges = np.unique([np.quantile(known, shares), np.quantile(np.unique(known), shares)])
        return cls([float(edge) for edge in edges])

    def __len__(self) -> int:
        return len(self.edges) + 2

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """(N,) int64: 0 where blank."""
        return np.where(np.isfinite(numbers), 1 + np.searchsorted(self.edges, numbers, side="right"), MISSING)

    def place(self, numbers: np.ndarray) -> np.ndarray:
        """(N,) float32 from -1 to 1, straight between the edges; 0 where blank."""
        known = np.isfinite(numbers)
        heights = np.linspace(-1, 1, len(self.edges)) if len(self.edges) > 1 else np.zeros(1)
        return np.where(known, np.interp(np.where(known, numbers, 0), self.edges, heights), 0).astype(
            np.float32
        )


@dataclass
class Encoder:
    """What turns the features of a schema into numbers, as learned from training rows."""

    vocabularies: dict[str, Vocabulary]
    bins: dict[str, Bins]
    tags: dict[str, tuple[str, Vocabulary]]

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        schema: Schema,
        source: str,
        least: int = 2,
        most: int = 100_000,
        buckets: int = 1,
        bins: int = 32,
    ) -> Encoder:
        """Learn values and quantiles.

        Args:
            frame: training rows.
            schema: names and kinds of the features.
            source: of the rows, for messages.
            least: how often a value comes to have an id of its own.
            most: how many values of a column have one, at most.
            buckets: how many ids the others share, by their hash.
            bins: of a number.
        """
        tags = {}
        for name in schema.features_of("tags"):
            mark = separator(frame[name]) or " "
            cells = frame[name].astype("string").str.split(mark, regex=False).explode()
            tags[name] = mark, Vocabulary.of(cells, least, most, buckets)
        return cls(
            {n: Vocabulary.of(frame[n], least, most, buckets) for n in schema.features_of("category")},
            {n: Bins.of(numbers(frame[n], n, source), bins) for n in schema.features_of("number")},
            tags,
        )

    @property
    def sizes(self) -> Sizes:
        """How many ids each column of `ids` and of `tags` has."""
        words, bins = map(len, self.vocabularies.values()), map(len, self.bins.values())
        return Sizes([*words, *bins], len(self.bins), [len(tags) for _, tags in self.tags.values()])

    @property
    def names(self) -> list[str]:
        """The columns of `ids`, then those of `tags`."""
        return [*self.vocabularies, *self.bins, *self.tags]

    def encode(self, frame: pd.DataFrame, source: str) -> Encoded:
        """Rows as numbers. Raises UserError where a column of numbers holds something else."""
        measured = {name: numbers(frame[name], name, source) for name in self.bins}
        ids = [words.encode(frame[name]) for name, words in self.vocabularies.items()]
        ids += [self.bins[name].encode(found) for name, found in measured.items()]
        values = [self.bins[name].place(found) for name, found in measured.items()]
        tags = [_tag_ids(frame[name], mark, words) for name, (mark, words) in self.tags.items()]
        return Encoded(
            _columns(ids, len(frame), np.int64),
            _columns(values, len(frame), np.float32),
            _columns(tags, len(frame), np.int64, MOST_TAGS),
        )

    def state(self) -> dict[str, Any]:
        """Return plain values that `from_state` reads back."""
        return {
            "vocabularies": {name: (words.known, words.buckets) for name, words in self.vocabularies.items()},
            "bins": {name: bins.edges for name, bins in self.bins.items()},
            "tags": {name: (mark, words.known, words.buckets) for name, (mark, words) in self.tags.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Encoder:
        """Rebuild from `state`."""
        return cls(
            {name: Vocabulary(*words) for name, words in state["vocabularies"].items()},
            {name: Bins(edges) for name, edges in state["bins"].items()},
            {name: (mark, Vocabulary(*words)) for name, (mark, *words) in state["tags"].items()},
        )


def coded(column: pd.Series[Any]) -> tuple[np.ndarray, list[str | None]]:
    """(N,) numbers of values, -1 where blank, and each value as text, None where that is blank.

    1.0 and 1 are the same text.
    """
    codes, values = pd.factorize(column)
    return codes, [as_text(value) for value in values]


def as_text(value: Any) -> str | None:
    """A cell as text without blanks around, None where nothing is left.

    >>> as_text(1.0), as_text(" up "), as_text(" ")
    ('1', 'up', None)
    """
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return (str(int(value)) if whole else str(value).strip()) or None


def numbers(column: pd.Series[Any], name: str, source: str) -> np.ndarray:
    """(N,) float64, NaN where blank. Raises UserError where a cell is something else."""
    found = pd.to_numeric(column, errors="coerce")
    odd = (found.isna() & column.notna()).to_numpy()
    if odd.any():
        place = int(odd.argmax())
        raise UserError(
            f"{source}: {name} is {column.iloc[place]!r} in row {int(column.index[place]) + 1}, and should "
            "be a number: mend the cell, or make the column a category in the schema."
        )
    return found.to_numpy(dtype=np.float64)


def _tag_ids(column: pd.Series[Any], mark: str, words: Vocabulary) -> np.ndarray:
    """(N, MOST_TAGS) int64."""
    codes, cells = coded(column)
    rows = np.zeros((len(cells) + 1, MOST_TAGS), dtype=np.int64)
    for row, cell in zip(rows, cells, strict=False):
        values = [value for value in (cell or "").split(mark) if value.strip()][-MOST_TAGS:]
        row[: len(values)] = words.encode(pd.Series(values, dtype="string"))
    return np.asarray(rows[codes])


def _columns(columns: list[np.ndarray], rows: int, kind: type, *more: int) -> Tensor:
    if not columns:
        return torch.from_numpy(np.zeros((rows, 0, *more), dtype=kind))
    return torch.from_numpy(np.stack(columns, 1).astype(kind))
