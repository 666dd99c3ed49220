"""The data module: a stream of rows with a class each, from a file, a public set or a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from apps.common.catalogue import catalogue, fetch
from apps.common.errors import UserError
from apps.common.frames import read_frame
from apps.common.loaders import ResumableLoader, as_it_is
from apps.drift.fair.groups import groups_of
from apps.drift.labels import UNKNOWN, Labels, wanted_last
from apps.drift.schema import Row, Schema
from apps.drift.streams import LENGTH, RECIPES, generate, width_of
from apps.drift.tables import label_column, rows_where

APP = "drift"
FIRST = 1000
"""Rows that tell what kind each column is."""
MOST_CLASSES = 100
"""A target with more labels is taken for a number that is to be estimated, unless `classes` says how many."""
OF_TARGET = ("above", "wanted")
"""Options that say nothing of another target."""

Batch = tuple[Tensor, Tensor, Tensor]
"""Features (B, D) float32, labels (B,) int64, and groups (B,) int64: by the sensitive column, -1 where that
is blank; 0 for all where there is none."""


class Data(LightningDataModule):
    """A stream in its own order, read once. Its last rows are predicted and never learned.

    A public set, and `hiring`, bring target, above, drop, where, order, every, categories, sensitive and
    wanted; any of them that is given here, were it as empty as [], holds instead.

    Args:
        path: CSV or parquet; the generated or public stream `name` by default.
        name: a generator, one of `apps.drift.streams.RECIPES`, or a set of the catalogue.
        target: the column of the labels.
        above: where the target is a number: the label is whether it lies above this one.
        drop: columns to leave out.
        where: which rows to keep, as a condition of pandas on the columns: "age < 60 and sex == 'f'".
        order: columns by which to sort; rows that are equal there keep their order.
        every: take every n-th row.
        categories: columns of numbers that are codes, and are read as words are.
        cycles: columns of numbers that come round, each with the length of its cycle, as {hour: 24}.
        rows: how many rows to generate, 20,000 by default, or the most to read.
        chunk: rows that are predicted before their labels are learned together by what learns by gradient;
            other experts learn row by row.
        window: rows of each validation: those that come next.
        classes: how many labels there may be; as many as the stream has by default.
        seed: of the generator.
        sensitive: the column that tells the group of a row, between which a model is to be fair.
        see_sensitive: whether it is a feature as well.
        wanted: the label that people hope for. It is numbered last: of two it is class 1.
    """

    def __init__(
        self,
        path: Path | None = None,
        name: str = "sea",
        target: str | None = None,
        above: float | None = None,
        drop: Sequence[str] | None = None,
        where: str | None = None,
        order: Sequence[str] | None = None,
        every: int | None = None,
        categories: Sequence[str] | None = None,
        cycles: Mapping[str, float] | None = None,
        rows: int | None = None,
        chunk: int = 16,
        window: int = 320,
        classes: int | None = None,
        seed: int = 0,
        sensitive: str | None = None,
        see_sensitive: bool = False,
        wanted: str | None = None,
    ) -> None:
        super().__init__()
        if min(1 if every is None else every, chunk, window) < 1:
            raise UserError("data.every, data.chunk and data.window must be 1 or more: raise them.")
        if any(length <= 0 for length in (cycles or {}).values()):
            raise UserError("data.cycles must be longer than 0: raise them.")
        self.path = Path(path) if path else None
        self.stream = name
        self.target, self.above = target, above
        self.drop, self.where, self.order, self.every, self.rows = drop, where, order, every, rows
        self.categories, self.cycles = categories, cycles
        self.chunk, self.window, self.classes, self.seed = chunk, window, classes, seed
        self.sensitive, self.see_sensitive, self.wanted = sensitive, see_sensitive, wanted
        self.groups: list[str] = []
        self.drifts: list[int] = []
        self.width = 0  # rows that a drift takes, before and behind its middle
        self.ready = False
        self._loader: ResumableLoader | None = None

    @property
    def source(self) -> str:
        """Where the stream is from, for messages."""
        return str(self.path or self.stream)

    def setup(self, stage: str | None = None) -> None:
        """Read or generate the stream."""
        if self.ready:
            return
        rows, y, group = self.read()
        self.x, self.y, self.group, self.ready = self.encoded(rows), y, group, True
        self.schema.check(rows)
        if stage == "fit":
            for note in self.notes():
                print(f"note: {note}.")
        if len(self.x) <= self.window:
            raise UserError(
                f"{self.source} has {len(self.x)} rows with a label, of which {self.window} are to be held "
                f"out: add rows, or lower --data.window."
            )

    def encoded(self, rows: list[Row]) -> Tensor:
        """Rows as features (N, D), the kinds of columns being told by the first ones."""
        unseen = [] if self.sensitive is None or self.see_sensitive else [self.sensitive]
        coded, round_ = self.categories or [], self.cycles or {}
        self.schema = Schema.of(rows[:FIRST], [self.target or "", *unseen], coded, round_)
        if not self.schema.columns:
            raise UserError(f"{self.source} has no column but {self.target}: add what labels may hang on.")
        return self.schema.take_in(rows)

    def notes(self) -> list[str]:
        """What a user should know of the stream, in sentences."""
        found = self.schema.notes()
        return (
            [*found, f"{self.unlabelled} rows have no label and are left out"] if self.unlabelled else found
        )

    def read(self) -> tuple[list[Row], Tensor, Tensor]:
        """The rows that have a label, as they are, without it; labels (N,) and groups (N,), both int64.

        Groups are all zero where there is no sensitive column, and -1 where it is blank.
        """
        frame = self._frame()
        assert self.target is not None
        labels = label_column(frame, self.target, self.above, self.source)
        many = labels.nunique()
        if self.classes is None and many > MOST_CLASSES:
            raise UserError(
                f"{self.source}: {self.target} has {many:,} labels: if it is a number, say --data.above, by "
                f"which it is told in two; if these are classes, --data.classes {many}."
            )
        names = [] if self.wanted is None else wanted_last(labels, self.wanted, self.source)
        self.labels = Labels(self.classes or max(2, many), names)
        y = self.labels.encode(labels)
        group = torch.zeros_like(y)
        if self.sensitive is not None:
            group, self.groups = groups_of(frame, self.sensitive, self.source)
        rows = frame.drop(columns=self.target).to_dict("records")
        known = [row for row, label in zip(rows, y.tolist(), strict=True) if label != UNKNOWN]
        self.unlabelled = len(rows) - len(known)
        has = y != UNKNOWN
        return [{str(name): cell for name, cell in row.items()} for row in known], y[has], group[has]

    @property
    def features(self) -> list[str]:
        """The names of the features, after `setup`."""
        return self.schema.features

    @property
    def has_gaps(self) -> bool:
        """Whether gaps between groups can be told: there are groups, and two labels."""
        return self.sensitive is not None and len(self.labels.names) == 2

    @property
    def learned(self) -> int:
        """Rows that are learned: all but the last `window`."""
        return len(self.x) - self.window

    def train_dataloader(self) -> ResumableLoader:
        """Chunks in the order of the stream."""
        rows = Rows(*self._rows(0, self.learned))
        self._loader = ResumableLoader(rows, self.chunk, seed=self.seed, shuffle=False, collate_fn=as_it_is)
        return self._loader

    def val_dataloader(self) -> DataLoader[Any]:
        """The rows that come next, as far as training has come."""
        return DataLoader(Coming(self), batch_size=None)

    def test_dataloader(self) -> DataLoader[Any]:
        """The last rows."""
        return DataLoader(Coming(self, last=True), batch_size=None)

    def coming(self) -> Batch:
        """The window of rows behind those that training was given."""
        given = 0 if self._loader is None else self._loader.sampler.given * self.chunk
        first = min(given, self.learned)
        return self._rows(first, first + self.window)

    def last(self) -> Batch:
        """The window at the end."""
        return self._rows(self.learned, self.learned + self.window)

    def state_dict(self) -> dict[str, Any]:
        """Return what prediction needs, as plain values."""
        names = {"target": self.target, "above": self.above, "drop": list(self.drop or [])}
        kept = {"schema": self.schema.state(), "labels": self.labels.names, "classes": self.labels.capacity}
        fair = {"sensitive": self.sensitive, "groups": self.groups}
        return {**names, **kept, **fair, "drifts": self.drifts, "width": self.width}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what is known of columns and labels, unless a stream was read already."""
        if not self.ready:
            self.schema = Schema.from_state(state_dict["schema"])
            self.labels = Labels(state_dict["classes"], state_dict["labels"])
            self.sensitive, self.groups = state_dict["sensitive"], state_dict["groups"]
            self.drifts, self.width = state_dict["drifts"], state_dict.get("width", 0)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from a checkpoint what prediction needs, without the stream it was trained on."""
        data = cls(target=state["target"], above=state["above"], drop=state["drop"])
        data.load_state_dict(dict(state))
        return data

    def _rows(self, first: int, end: int) -> Batch:
        return self.x[first:end], self.y[first:end], self.group[first:end]

    def _frame(self) -> pd.DataFrame:
        frame = self._table()
        self.sensitive, self.wanted = self.sensitive or None, self.wanted or None
        if self.target is None:
            raise UserError(f"{self.source}: say which column holds the labels: --data.target.")
        drop, order = list(self.drop or []), list(self.order or [])
        named = [self.target, *drop, *order, *(self.categories or []), *(self.cycles or {})]
        absent = [name for name in named if name not in frame]
        if absent:
            known = ", ".join(frame.columns)
            raise UserError(
                f"{self.source} has no column {absent[0]!r}: it has {known}; name another, or add it."
            )
        if self.target in drop:
            raise UserError(f"{self.source}: {self.target} is both target and dropped: give --data.drop.")
        if self.where:
            frame = rows_where(frame, self.where, self.source)
        if order:
            frame = frame.sort_values(order, kind="stable")
        frame = frame.drop(columns=drop).iloc[:: self.every]
        return frame if self.rows is None else frame.iloc[: self.rows]

    def _table(self) -> pd.DataFrame:
        """The rows of the file, the public set or the generator, as they are there."""
        if self.path is not None:
            return read_frame(self.path)
        if self.stream in RECIPES:
            self._take_up({"target": "label", **RECIPES[self.stream].read})
            length = self.rows or LENGTH
            frame, self.drifts = generate(self.stream, length, self.seed)
            self.width = width_of(self.stream, length)
            return frame
        entries = catalogue(APP)
        if self.stream not in entries:
            known = ", ".join([*RECIPES, *entries])
            raise UserError(f"there is no stream {self.stream!r}: name one of {known}, or give --data.path.")
        self._take_up(entries[self.stream].read)
        return read_frame(fetch(APP, self.stream))

    def _take_up(self, said: Mapping[str, Any]) -> None:
        """Use what is said of a stream by its name, where the user said nothing."""
        own = self.target not in (None, said.get("target"))
        for name, value in said.items():
            if getattr(self, name) is None and not (own and name in OF_TARGET):
                setattr(self, name, value)


class Rows(Dataset[Batch]):
    """Rows by number, whole batches at once."""

    def __init__(self, x: Tensor, y: Tensor, group: Tensor) -> None:
        self.x, self.y, self.group = x, y, group

    def __len__(self) -> int:
        return len(self.x)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        """Read the rows of one batch."""
        places = list(rows)
        return self.x[places], self.y[places], self.group[places]


class Coming(Dataset[Batch]):
    """A single item: the window of rows that comes next, or the last one, when it is asked for."""

    def __init__(self, data: Data, last: bool = False) -> None:
        self.data, self.at_end = data, last

    def __len__(self) -> int:
        return 1

    def __getitem__(self, item: int) -> Batch:
        return self.data.last() if self.at_end else self.data.coming()
