"""The data module: impressions with their labels, or users' items in order, of one log."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from apps.common.errors import UserError
from apps.common.loaders import ResumableLoader, as_it_is
from apps.recsys.checks import check_labels, check_order, check_split, fingerprint
from apps.recsys.columns import Schema
from apps.recsys.encoding import Encoded, Encoder, Vocabulary, coded
from apps.recsys.impressions import (
    Batch,
    Impressions,
    Part,
    Split,
    counts_of,
    halved,
    histories,
    parts_of,
)
from apps.recsys.reading import asked_walks, moments_of, read_walks
from apps.recsys.schema import warn
from apps.recsys.sequences import Walks
from apps.recsys.source import APP, SIMULATED, Source

__all__ = ["APP", "Data"]
Protocol = Literal["impressions", "next_item"]
LENGTH = 50
"""Items of a history that the next one is told from, where nobody says how many."""


class Data(LightningDataModule):
    """A log of who was shown or took what, and when.

    As impressions each row has its labels, and rows are split by time or at random. For the next item each
    user's last one is for test, the one before for validation. Values and quantiles of features are learned
    from training rows. A public set brings its schema and its tables of users and items.

    Args:
        path: CSV, parquet or an atomic file of RecBole; the generated or public set `name` by default.
        name: simulated, or a set of the catalogue.
        users: table with a row a user, joined by its first column.
        items: table with a row an item, joined by its first column.
        schema: a YAML file, as `python -m apps recsys schema` writes it; guessed by default.
        tasks: the columns of the labels, where there is no schema.
        protocol: "impressions", or "next_item".
        held_out: a file of the same columns whose rows, halved at random, are those of validation and test.
        split: "time" or "random"; by time where the schema has one.
        cut: the two times at which validation and test begin; after 70% and 85% of the rows by default.
        history: how many of a user's last items a row comes with; none by default, 50 for the next item.
        taken: the label by which an item counts as taken, or liked, by a user; the first by default.
        least: how often a value must come in training to have an id of its own.
        buckets: ids that other values of a column share by their hash.
        rows: of the generated log.
        correlation: of its tasks, between -1 and 1, see `simulate.simulate`.
        batch_size: rows, or users' windows, a batch.
        seed: of the generated log, of what is split at random, and of the order of batches.
        batch_seed: of the order of batches alone; the same by default.
    """

    def __init__(
        self,
        path: Path | None = None,
        name: str = SIMULATED,
        users: Path | None = None,
        items: Path | None = None,
        schema: Path | None = None,
        tasks: Sequence[str] | None = None,
        protocol: Protocol = "impressions",
        held_out: Path | None = None,
        split: Split | None = None,
        cut: Sequence[float | str] | None = None,
        history: int | None = None,
        taken: str | None = None,
        least: int = 2,
        buckets: int = 1,
        rows: int = 20_000,
        correlation: float = 0.5,
        batch_size: int = 512,
        seed: int = 0,
        batch_seed: int | None = None,
    ) -> None:
        super().__init__()
        if not -1 <= correlation <= 1:
            raise UserError(f"data.correlation {correlation} must lie between -1 and 1: change it.")
        self.next_item = protocol == "next_item"
        self.history = (LENGTH if self.next_item else 0) if history is None else history
        if min(batch_size, rows, buckets, least) < 1 or self.history < self.next_item:
            raise UserError(
                "batch_size, rows, least, buckets and, for the next item, history must be 1 or more: raise."
            )
        self.source = Source(path, name, users, items, schema, tasks, held_out, rows, correlation, seed)
        self.split, self.cut, self.taken = split, cut, taken
        self.least, self.buckets = least, buckets
        self.batch_size, self.seed = batch_size, seed
        self.batch_seed = seed if batch_seed is None else batch_seed
        self.schema, self.log = Schema({}, {}), ""
        self.encoder = Encoder({}, {}, {})
        self.catalogue = Vocabulary([])
        self.latest: dict[str, list[int]] = {}
        self.places: dict[Part, np.ndarray] = {}
        self.contents: Encoded | None = None
        self._parts: dict[Part, Impressions] = {}
        self._walks: dict[Part, Walks] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read, split and encode the log."""
        if self._parts or self._walks:
            return
        found = self.source.read()
        self.schema = found.schema
        labels = self.schema.labels(found.frame, str(self.source))
        self.log = fingerprint(found.frame, self.schema)
        if self.next_item:
            given = {"held_out": self.source.held_out, "split": self.split, "cut": self.cut}
            check_split(f"{self.source}: for the next item each user's last ones are held out", given)
        elif found.held:
            given = {"split": self.split, "cut": self.cut}
            check_split(f"{self.source}: the rows of {self.source.held_out or 'a file'} are held out", given)
        elif self.split == "random":
            check_split(f"{self.source}: rows are split at random", {"cut": self.cut})
        if found.guessed:
            warn(found.frame, self.schema, labels, "a --data.schema")
        if self.next_item:
            liked = labels[:, self._taken()]
            read = read_walks(found.frame, self.schema, liked, self.history, self._fit, str(self.source))
            self.catalogue, self.encoder, self.contents, self._walks = read
            return
        if self.history and (self.split == "random" or not self.schema.time):
            raise UserError(
                f"{self.source}: a history needs rows in order of time: name the time, use --data.split time."
            )
        generator = np.random.default_rng(self.seed)
        self.places = (
            halved(len(found.frame), found.held, generator)
            if found.held
            else parts_of(
                found.frame, self.schema.time, self.split, self.cut or found.cut, generator, str(self.source)
            )
        )
        self._set_up_impressions(found.frame, labels)

    def part(self, part: Part) -> Impressions:
        """The rows of one part."""
        return self._parts[part]

    def walks(self, part: Part) -> Walks:
        """Users' windows of one part."""
        return self._walks[part]

    def encode(self, frame: pd.DataFrame, source: str) -> Batch:
        """A user's own rows, without labels; histories are those at the end of the log of training.

        Raises UserError where a column is absent or holds something else than in training.
        """
        self.schema.check([*map(str, frame)], source, labels=False)
        past = np.zeros((len(frame), self.history), dtype=np.int64)
        if self.history and self.schema.user:
            codes, names = coded(frame[self.schema.user])
            for row, who in enumerate(codes):
                before = self.latest.get(names[who] or "", []) if who >= 0 else []
                past[row, self.history - len(before) :] = before
        return Batch(
            self.encoder.encode(frame, source),
            torch.from_numpy(past),
            torch.from_numpy(self._items(frame)),
            torch.full((len(frame), len(self.schema.tasks)), torch.nan),
        )

    def encode_walks(self, frame: pd.DataFrame, source: str) -> tuple[list[str], Walks]:
        """The users of a user's own log, and what they took, in order; behind it comes nothing yet.

        Raises UserError where a column is absent or holds something else than in training.
        """
        return asked_walks(frame, self.schema, self.encoder, self.catalogue, self.history, source)

    def item_name(self, item: int) -> str:
        """What the item of an id is called in the log."""
        return self.catalogue.name(item)

    def unseen(self, frame: pd.DataFrame) -> dict[str, float]:
        """Of who and what the share of rows with one that was not in training, where there are any."""
        known = dict(self.encoder.vocabularies)
        if self.schema.item:
            known[self.schema.item] = self.catalogue
        names = [name for name in (self.schema.user, self.schema.item) if name in known]
        shares = {str(name): known[str(name)].unseen(frame[str(name)]) for name in names}
        return {name: share for name, share in shares.items() if share > 0}

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled by (seed, epoch)."""
        return ResumableLoader(
            self._data("train"), self.batch_size, seed=self.batch_seed, collate_fn=as_it_is
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """In order."""
        return self._in_order("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        """In order."""
        return self._in_order("test")

    def state_dict(self) -> dict[str, Any]:
        """Return what prediction needs, as plain values."""
        return {
            "schema": dataclasses.asdict(self.schema),
            "encoder": self.encoder.state(),
            "catalogue": self.catalogue.known,
            "next_item": self.next_item,
            "history": self.history,
            "latest": self.latest,
            "log": self.log,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up columns and values, or see that the log that was read is that of training.

        Raises UserError where it is another one: its rows would be split otherwise, and ids stand for others.
        """
        if self._parts or self._walks:
            if self.log != state_dict["log"]:
                raise UserError(
                    f"{self.source} has changed since training: restore it, train again, or use predict."
                )
        else:
            self.schema = Schema.of(state_dict["schema"], "the checkpoint")
            self.encoder = Encoder.from_state(state_dict["encoder"])
            self.catalogue = Vocabulary(state_dict["catalogue"])
            self.next_item = state_dict["next_item"]
            self.history, self.latest = state_dict["history"], state_dict["latest"]

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from a checkpoint what prediction needs, without the log it was trained on."""
        data = cls()
        data.load_state_dict(dict(state))
        return data

    def _set_up_impressions(self, frame: pd.DataFrame, labels: np.ndarray) -> None:
        check_labels(labels, self.places, self.schema, str(self.source))
        train = frame.iloc[self.places["train"]]
        self.encoder = self._fit(train, self.schema)
        if self.schema.item:
            self.catalogue = Vocabulary.of(train[self.schema.item])
        user, names = self._users(frame)
        item, moment = self._items(frame), moments_of(frame, self.schema, str(self.source))
        taken = labels[:, self._taken()] == 1
        if self.history:
            check_order(moment, self.places, str(self.source))
        past, latest = histories(user, item, taken, moment, self.history)
        self.latest = {names[who] or "": items for who, items in latest.items()}
        batch = Batch(
            self.encoder.encode(frame, str(self.source)),
            torch.from_numpy(past),
            torch.from_numpy(item),
            torch.from_numpy(labels),
        )
        activity, fame = (counts_of(codes, self.places["train"]) for codes in (user, item))
        whole = Impressions(batch, user, activity, fame)
        self._parts = {part: whole.only(rows) for part, rows in self.places.items()}

    def _fit(self, train: pd.DataFrame, schema: Schema) -> Encoder:
        return Encoder.fit(train, schema, str(self.source), self.least, buckets=self.buckets)

    def _taken(self) -> int:
        tasks = list(self.schema.tasks)
        if self.taken is not None and self.taken not in tasks:
            raise UserError(f"data.taken is {self.taken!r}: name one of {', '.join(tasks)}.")
        return 0 if self.taken is None else tasks.index(self.taken)

    def _users(self, frame: pd.DataFrame) -> tuple[np.ndarray, list[str | None]]:
        """(N,) numbers of users, -1 where blank, and their names."""
        if self.schema.user is None:
            return np.full(len(frame), -1), []
        codes, names = coded(frame[self.schema.user])
        return codes.astype(np.int64), names

    def _items(self, frame: pd.DataFrame) -> np.ndarray:
        if self.schema.item is None:
            return np.zeros(len(frame), dtype=np.int64)
        return self.catalogue.encode(frame[self.schema.item])

    def _data(self, part: Part) -> Impressions | Walks:
        return self._walks[part] if self.next_item else self._parts[part]

    def _in_order(self, part: Part) -> DataLoader[Any]:
        return DataLoader(self._data(part), 256 if self.next_item else 4096, collate_fn=as_it_is)
