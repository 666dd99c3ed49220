"""The data module: a log of impressions, from files, a public set or the generator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from apps.common.catalogue import catalogue, fetch
from apps.common.discovery import data_folder
from apps.common.errors import UserError
from apps.common.frames import read_frame
from apps.common.loaders import ResumableLoader, as_it_is
from apps.recsys.columns import Schema
from apps.recsys.encoding import Encoder, Vocabulary, coded
from apps.recsys.files import Log, read_log
from apps.recsys.impressions import PARTS, Batch, Impressions, Part, Split, counts_of, histories, parts_of
from apps.recsys.simulate import SHARE, simulate

APP = "recsys"
SIMULATED = "simulated"


class Data(LightningDataModule):
    """Impressions, each with its labels, split by time or at random.

    What is learned of features, their values and quantiles, is learned from training rows. A public set
    brings its schema and its tables of users and items.

    Args:
        path: CSV, parquet or an atomic file of RecBole; the generated or public set `name` by default.
        name: simulated, or a set of the catalogue.
        users, items: tables with a row a user, or an item, joined by their first column.
        schema: a YAML file, as `python -m apps recsys schema` writes it; guessed by default.
        tasks: the columns of the labels, where there is no schema.
        held_out: a file of the same columns whose rows, halved at random, are those of validation and test.
        split: "time" or "random"; by time where the schema has one.
        cut: the two times at which validation and test begin; after 70% and 85% of the rows by default.
        history: how many of a user's last items a row comes with.
        taken: the label by which an item counts as taken by a user; the first by default.
        least: how often a value must come in training to have an id of its own.
        buckets: ids that other values of a column share by their hash.
        rows, correlation: of the generated log, see `simulate.simulate`.
        batch_size: rows a batch.
        seed: of the generated log, of what is split at random, and of the order of batches.
        order: seed of the order of batches alone; the same by default.
    """

    def __init__(
        self,
        path: Path | None = None,
        name: str = SIMULATED,
        users: Path | None = None,
        items: Path | None = None,
        schema: Path | None = None,
        tasks: Sequence[str] | None = None,
        held_out: Path | None = None,
        split: Split | None = None,
        cut: Sequence[float | str] | None = None,
        history: int = 0,
        taken: str | None = None,
        least: int = 2,
        buckets: int = 1,
        rows: int = 20_000,
        correlation: float = 0.5,
        batch_size: int = 512,
        seed: int = 0,
        order: int | None = None,
    ) -> None:
        super().__init__()
        if min(batch_size, rows, buckets, least) < 1 or history < 0:
            raise ValueError("batch_size, rows, least and buckets must be at least 1, and history at least 0")
        self.path, self.name, self.users, self.items = path, name, users, items
        self.schema_file, self.tasks, self.held_out, self.split, self.cut = (
            schema,
            tasks,
            held_out,
            split,
            cut,
        )
        self.history, self.taken, self.least, self.buckets = history, taken, least, buckets
        self.rows, self.correlation = rows, correlation
        self.batch_size, self.seed, self.order = batch_size, seed, seed if order is None else order
        self.schema: Schema | None = None
        self.encoder: Encoder | None = None
        self.catalogue = Vocabulary([])
        self.latest: dict[str, list[int]] = {}
        self._parts: dict[Part, Impressions] = {}
        self.frame: pd.DataFrame | None = None
        self.places: dict[Part, np.ndarray] = {}

    @property
    def source(self) -> str:
        """Where the log is from, for messages."""
        return str(self.path or self.name)

    def setup(self, stage: str | None = None) -> None:
        """Read, split and encode the log."""
        if self._parts:
            return
        log, held = self._read()
        self.schema = self.schema or self._schema(log)
        schema = self.schema
        if not schema.tasks or not schema.features:
            raise UserError(f"{self.source}: the schema needs a task and a feature: name them.")
        schema.check([*map(str, log.frame)], self.source)
        frame, self.places = log.frame, self._split(log.frame, held)
        self.frame = frame
        labels = schema.labels(frame, self.source)
        self._check_labels(labels)
        train = frame.iloc[self.places["train"]]
        self.encoder = Encoder.fit(train, schema, self.least, buckets=self.buckets)
        if schema.item:
            self.catalogue = Vocabulary.of(train[schema.item])
        user, names = self._users(frame)
        item = self._items(frame)
        order = (
            np.arange(len(frame))
            if schema.time is None
            else frame[schema.time].argsort(kind="stable").to_numpy()
        )
        past, latest = histories(user, item, labels[:, self._taken()] == 1, order, self.history)
        self.latest = {names[who] or "": items for who, items in latest.items()}
        batch = Batch(
            self.encoder.encode(frame, self.source),
            torch.from_numpy(past),
            torch.from_numpy(item),
            torch.from_numpy(labels),
        )
        activity, fame = (counts_of(codes, self.places["train"]) for codes in (user, item))
        whole = Impressions(batch, user, activity, fame)
        self._parts = {part: whole.only(rows) for part, rows in self.places.items()}

    def part(self, part: Part) -> Impressions:
        """The rows of one part."""
        return self._parts[part]

    def encode(self, frame: pd.DataFrame, source: str) -> Batch:
        """A user's own rows, without labels; histories are those at the end of the log of training.

        Raises UserError where a column is absent or holds something else than in training.
        """
        assert self.schema is not None
        assert self.encoder is not None
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

    def unseen(self, frame: pd.DataFrame) -> dict[str, float]:
        """Of who and what the share of rows with one that was not in training, where there are any."""
        assert self.schema is not None
        assert self.encoder is not None
        known = {
            **self.encoder.vocabularies,
            **({self.schema.item: self.catalogue} if self.schema.item else {}),
        }
        names = [name for name in (self.schema.user, self.schema.item) if name in known]
        shares = {str(name): known[str(name)].unseen(frame[str(name)]) for name in names}
        return {name: share for name, share in shares.items() if share > 0}

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled by (seed, epoch)."""
        return ResumableLoader(self._parts["train"], self.batch_size, seed=self.order, collate_fn=as_it_is)

    def val_dataloader(self) -> DataLoader[Any]:
        """In order."""
        return self._in_order("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        """In order."""
        return self._in_order("test")

    def state_dict(self) -> dict[str, Any]:
        """Return what prediction needs, as plain values."""
        assert self.schema is not None
        assert self.encoder is not None
        return {
            "schema": dataclasses.asdict(self.schema),
            "encoder": self.encoder.state(),
            "catalogue": self.catalogue.known,
            "history": self.history,
            "latest": self.latest,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up columns and values, unless a log was read already."""
        if not self._parts:
            self.schema = Schema.of(state_dict["schema"], "the checkpoint")
            self.encoder = Encoder.from_state(state_dict["encoder"])
            self.catalogue = Vocabulary(state_dict["catalogue"])
            self.history, self.latest = state_dict["history"], state_dict["latest"]

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from a checkpoint what prediction needs, without the log it was trained on."""
        data = cls()
        data.load_state_dict(dict(state))
        return data

    def _read(self) -> tuple[Log, int]:
        """The log, and how many of its last rows are held out."""
        if self.path is None and self.name == SIMULATED:
            log = Log(simulate(self.rows, self.correlation, seed=self.seed), {})
        elif self.path is None:
            self._take_up()
            log = read_log(fetch(APP, str(self.name)), *self._beside())
        else:
            log = read_log(self.path, self.users, self.items)
        if self.held_out is None:
            return log, 0
        rest = read_frame(self.held_out)
        absent = [name for name in log.frame if name not in rest]
        if absent:
            raise UserError(f"{self.held_out} has no column {absent[0]!r}, and {self.source} does: add it.")
        return Log(pd.concat([log.frame, rest[list(log.frame)]], ignore_index=True), log.kinds), len(rest)

    def _take_up(self) -> None:
        """Use what the catalogue says of a set, where the user said nothing."""
        entries = catalogue(APP)
        if self.name not in entries:
            known = ", ".join(
                [SIMULATED, *(name for name, entry in entries.items() if "schema" in entry.read)]
            )
            raise UserError(f"there is no set {self.name!r}: name one of {known}, or give --data.path.")
        for name, value in entries[self.name].read.items():
            if name == "schema":
                self.schema_file = self.schema_file or data_folder(APP) / value
            elif name == "held_out":
                self.held_out = self.held_out or fetch(APP, value)
            elif getattr(self, name) is None:
                setattr(self, name, value)

    def _beside(self) -> list[Path | None]:
        return [
            fetch(APP, str(table)) if isinstance(table, str) else table for table in (self.users, self.items)
        ]

    def _schema(self, log: Log) -> Schema:
        if self.schema_file is not None:
            return Schema.load(self.schema_file)
        tasks = self.tasks
        if tasks is None and self.path is None:
            names = map(str, log.frame)
            tasks = [name for name in names if name.partition("_")[0] in SHARE]
        if not tasks:
            raise UserError(
                f"{self.source}: name the labels: --data.tasks '[click, like]', or a --data.schema."
            )
        found = Schema.infer(log, tasks, self.source)
        if self.path is None:
            for name, task in found.tasks.items():
                task.group = name.partition("_")[0]
        return found

    def _split(self, frame: pd.DataFrame, held: int) -> dict[Part, np.ndarray]:
        generator = np.random.default_rng(self.seed)
        if not held:
            time = None if self.schema is None else self.schema.time
            return parts_of(frame, time, self.split, self.cut, generator, self.source)
        order = len(frame) - held + generator.permutation(held)
        halves = np.split(order, [held // 2])
        found = [np.arange(len(frame) - held), *(np.sort(half) for half in halves)]
        return dict(zip(PARTS, found, strict=True))

    def _check_labels(self, labels: np.ndarray) -> None:
        assert self.schema is not None
        for place, name in enumerate(self.schema.tasks):
            for part in PARTS[:2]:
                known = labels[self.places[part], place]
                if len(np.unique(known[~np.isnan(known)])) < 2:
                    raise UserError(
                        f"{self.source}: all {part} rows have one value of the label {name}: take it "
                        "out of the schema, or give other rows for that part."
                    )

    def _taken(self) -> int:
        assert self.schema is not None
        tasks = list(self.schema.tasks)
        if self.taken is not None and self.taken not in tasks:
            raise UserError(f"data.taken is {self.taken!r}: name one of {', '.join(tasks)}.")
        return 0 if self.taken is None else tasks.index(self.taken)

    def _users(self, frame: pd.DataFrame) -> tuple[np.ndarray, list[str | None]]:
        """(N,) numbers of users, -1 where blank, and their names."""
        assert self.schema is not None
        if self.schema.user is None:
            return np.full(len(frame), -1), []
        codes, names = coded(frame[self.schema.user])
        return codes.astype(np.int64), names

    def _items(self, frame: pd.DataFrame) -> np.ndarray:
        assert self.schema is not None
        if self.schema.item is None:
            return np.zeros(len(frame), dtype=np.int64)
        return self.catalogue.encode(frame[self.schema.item])

    def _in_order(self, part: Part) -> DataLoader[Any]:
        return DataLoader(self._parts[part], 4096, collate_fn=as_it_is)
