"""A stream model on its own: rows in, predictions out, and a state that can be kept."""

from __future__ import annotations

import pickle
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import torch
from collegium import record
from jsonargparse import ArgumentParser
from torch import Tensor

from apps.common.errors import UserError
from apps.common.files import replacing
from apps.common.runs import Run
from apps.drift.data import APP
from apps.drift.fair.groups import Groups
from apps.drift.labels import UNKNOWN, Labels
from apps.drift.model import StreamModel, normalised, step
from apps.drift.schema import Row, Schema, as_text, is_missing
from apps.drift.tables import as_label

FORMAT = 5
"""Counts up when kept states change their meaning."""
TRUSTED = ("apps.", "collegium.")
"""How names of classes begin that a state may name."""
UNFIT = (RuntimeError, LookupError, TypeError, ValueError, ArgumentError)
"""What is raised where a state has the right form and not the right content."""


class Said(NamedTuple):
    """Of some rows: probabilities (n, C) of the labels so far, 0 for one that came no earlier than its row,
    and the router's weights (n, E)."""

    probs: Tensor
    trust: Tensor


class Learner:
    """Learns a stream row by row, or some rows at a time.

    Args:
        network: {class_path: ..., init_args: ...} of a `StreamModel`.
        target: the column of the labels, which rows may have or not.
        classes: how many labels there may be.
        learning_rate: of what learns by gradient, by AdamW.
        seed: of the first weights, and of all that is drawn.
        sensitive: the column of the groups, between which a model is to be fair; it is no feature.
        above: number of which labels tell whether the target lies above it.
        weight_decay: of AdamW.

    Attributes:
        strangers: how often each label came for which there was no room.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        target: str | None = None,
        classes: int = 32,
        learning_rate: float = 3e-3,
        seed: int = 0,
        sensitive: str | None = None,
        above: float | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        self.above, self.weight_decay = above, weight_decay
        self.config, self.target, self.learning_rate, self.seed = dict(network), target, learning_rate, seed
        self.sensitive, self.labels, self.groups = sensitive, Labels(classes), Groups()
        self.network = model_of(self.config)
        self.schema: Schema | None = None
        self.rows, self.strangers = 0, dict[str, int]()

    def meet(
        self, rows: Sequence[Row], categories: Sequence[str] = (), cycles: Mapping[str, float] | None = None
    ) -> None:
        """Tell from some rows what their columns are, as `Schema.of` does; the first time alone."""
        if self.schema is not None:
            return
        but = [name for name in (self.target, self.sensitive) if name]
        schema = Schema.of(rows, but, categories, cycles)
        if not schema.columns:
            raise UserError("these rows have no column but the label: add what it may hang on.")
        if self.sensitive is not None and all(self.sensitive not in row for row in rows):
            raise UserError(f"these rows have no column {self.sensitive!r} to tell groups by.")
        self.schema = schema
        self._build()

    def say(self, rows: Sequence[Row]) -> Said:
        """Predict rows by what is known now. Raises `UserError` before the first rows were met."""
        if self.schema is None:
            raise UserError("nothing was learned yet: show some rows with labels first.")
        x = self.schema.encode(rows)
        with torch.no_grad(), record(self.network) as routings:
            probs = self.network(x)
        weights = [call.dense_weight() for calls in routings.values() for call in calls]
        alone = torch.ones(len(x), len(self.network.expert_names))
        return Said(self._of_known(probs), weights[0] if weights else alone)

    def learn(self, rows: Sequence[Row], labels: Sequence[Any]) -> Said:
        """Predict rows, then learn their labels; a row whose label is missing is predicted alone."""
        self.meet(rows)
        before = len(self.labels.names)
        y = self.labels.encode(self.label(cell) for cell in labels)
        known = y != UNKNOWN
        for cell, has in zip(labels, known.tolist(), strict=True):
            if not has and not is_missing(cell):
                self.strangers[as_text(cell)] = self.strangers.get(as_text(cell), 0) + 1
        said = self._told(rows, y, known)
        seen = (torch.cat([torch.tensor([before]), y + 1]).cummax(0).values)[:-1]
        said.probs[torch.arange(said.probs.shape[1]) >= seen[:, None]] = 0.0
        return Said(normalised(said.probs), said.trust)

    def _told(self, rows: Sequence[Row], y: Tensor, known: Tensor) -> Said:
        if known.all():
            return self._taught(rows, y)
        said = self.say(rows)
        if known.any():
            taught = self._taught(
                [row for row, has in zip(rows, known.tolist(), strict=True) if has], y[known]
            )
            said.probs[known], said.trust[known] = taught.probs, taught.trust
        return said

    def notes(self) -> list[str]:
        """What a user should know of the columns and labels, in sentences."""
        found = self.schema.notes() if self.schema else []
        if not self.strangers:
            return found
        some = [*map(repr, self.strangers)]
        told = ", ".join([*some[:5], *(["..."] if len(some) > 5 else [])])
        return [
            *found,
            f"{sum(self.strangers.values()):,} rows have labels for which there is no room, which is "
            f"{self.labels.capacity} ({told}): they were predicted and not learned; train again with more "
            "--data.classes, or begin a new state with more --classes",
        ]

    def label(self, cell: Any) -> Any:
        """The label that a cell of the target stands for; None where it is missing."""
        try:
            return as_label(cell, self.above)
        except ValueError as error:
            raise UserError(
                f"{self.target} holds {error}, and is to be compared with {self.above}."
            ) from error

    def _taught(self, rows: Sequence[Row], y: Tensor) -> Said:
        assert self.schema is not None
        group = self.groups.encode(row.get(self.sensitive) for row in rows) if self.sensitive else None
        found = step(self.network, self.optimizer, self.schema.take_in(rows), y, group)
        self.rows += len(rows)
        return Said(self._of_known(found.probs), found.trust)

    def save(self, path: Path) -> None:
        """Keep everything in one file, whole or not at all."""
        if self.schema is None:
            raise UserError(f"nothing was learned yet, so {path} is not written.")
        state = {
            "collegium": {"app": APP, "format": FORMAT},
            "config": self.config,
            "target": (self.target, self.above),
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "seed": self.seed,
            "rows": self.rows,
            "labels": (self.labels.capacity, self.labels.names),
            "groups": (self.sensitive, self.groups.names),
            "schema": self.schema.state(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    @classmethod
    def load(cls, path: Path) -> Learner:
        """Take up what `save` kept. Nothing in the file is run: tensors and plain values alone are read, and
        the classes that it names are this project's.

        Raises `UserError` where the file is no such state.
        """
        damaged = f"{path} is no state of a stream, or is damaged: name another file."
        try:
            with ZipFile(path) as file:
                if file.testzip() is not None:
                    raise UserError(damaged)
            state = torch.load(path, weights_only=True, map_location="cpu")
            mark = dict(state["collegium"])
        except (OSError, EOFError, BadZipFile, pickle.UnpicklingError, *UNFIT) as error:
            raise UserError(damaged) from error
        if mark.get("app") != APP or mark.get("format") != FORMAT:
            raise UserError(
                f"{path} belongs to {mark.get('app')}, format {mark.get('format')}, and not to {APP}, format "
                f"{FORMAT}: name another file."
            )
        try:
            return cls._of_state(state)
        except (AttributeError, *UNFIT) as error:
            raise UserError(damaged) from error

    @classmethod
    def _of_state(cls, state: Mapping[str, Any]) -> Learner:
        """Raises one of UNFIT, or AttributeError, where something is missing or of another kind."""
        if foreign := [name for name in _import_paths(state["config"]) if not name.startswith(TRUSTED)]:
            raise ValueError(f"the state names {foreign[0]}")
        capacity, names = state["labels"]
        target, above = state["target"]
        learner = cls(state["config"], target, capacity, state["learning_rate"], state["seed"])
        learner.labels, learner.rows, learner.above = Labels(capacity, names, True), state["rows"], above
        learner.weight_decay = state["weight_decay"]
        learner.sensitive, names = state["groups"]
        learner.groups = Groups(names)
        learner.schema = Schema.from_state(state["schema"])
        learner._build()
        learner.network.load_state_dict(state["network"])
        learner.optimizer.load_state_dict(state["optimizer"])
        return learner

    @classmethod
    def from_run(cls, run: Run, checkpoint: Mapping[str, Any]) -> Learner:
        """Go on from where a training stood, by the same rate and decay, and no term of balance.

        Args:
            run: the folder with its configuration.
            checkpoint: of it.
        """
        model = run.options("model")
        kept = checkpoint["Data"]
        learner = cls(model["network"], kept["target"], kept["classes"], model["learning_rate"])
        learner.weight_decay = model.get("weight_decay", 0.0)
        learner.labels, learner.above = Labels(kept["classes"], kept["labels"], True), kept["above"]
        learner.sensitive, learner.groups = kept["sensitive"], Groups(kept["groups"])
        learner.schema = Schema.from_state(kept["schema"])
        learner._build()
        weights = checkpoint["state_dict"]
        own = {name.removeprefix("network."): value for name, value in weights.items()}
        learner.network.load_state_dict(own)
        learner.rows = len(checkpoint["history"].get("label", ()))
        return learner

    def _build(self) -> None:
        assert self.schema is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network.build(len(self.schema.features), self.labels.capacity)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=self.learning_rate, weight_decay=self.weight_decay)
        self.network.eval()

    def _of_known(self, probs: Tensor) -> Tensor:
        return normalised(probs[:, : len(self.labels.names)].detach())


def _import_paths(config: Any) -> Iterator[str]:
    """Every text in a configuration by which a class could be imported."""
    if isinstance(config, Mapping):
        config = [*config.values()]
    if isinstance(config, list | tuple):
        for part in config:
            yield from _import_paths(part)
    elif isinstance(config, str) and "." in config:
        yield config


def model_of(config: Mapping[str, Any]) -> StreamModel:
    """Build a model from {class_path: ..., init_args: ...}."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(StreamModel, "network")
    made = parser.instantiate_classes(parser.parse_object({"network": deepcopy(dict(config))}))
    network: StreamModel = made.network
    return network
