"""Where a log comes from: files, a public set, or the generator; and what its columns are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from apps.common.catalogue import catalogue, fetch
from apps.common.discovery import data_folder
from apps.common.errors import UserError
from apps.recsys.columns import Schema
from apps.recsys.files import Log, read_log
from apps.recsys.simulate import SHARE, simulate

APP = "recsys"
SIMULATED = "simulated"


class Found(NamedTuple):
    """A log and its columns; held: how many of its last rows are held out; cut: the times at which validation
    and test begin, where the catalogue says so; guessed: whether nobody said what the columns are."""

    frame: pd.DataFrame
    schema: Schema
    held: int
    cut: Sequence[Any] | None
    guessed: bool


@dataclass
class Source:
    """What was said of a log, see `data.Data`."""

    path: Path | None
    name: str
    users: Path | None
    items: Path | None
    schema: Path | None
    tasks: Sequence[str] | None
    held_out: Path | None
    rows: int
    correlation: float
    seed: int

    def __str__(self) -> str:
        """For messages."""
        return str(self.path or self.name)

    def read(self) -> Found:
        """Read the log and its schema.

        Raises UserError where a file is absent or does not fit, or nothing says what the labels are.
        """
        if self.path is not None:
            own = [self.users, self.items]
            return self._found(read_log(self.path, *own), self.schema, self.held_out, own)
        if self.name == SIMULATED:
            return self._found(
                Log(simulate(self.rows, self.correlation, seed=self.seed), {}), self.schema, None, ()
            )
        entries = catalogue(APP)
        said = entries[self.name].read if self.name in entries else {}
        if "schema" not in said:
            known = ", ".join(
                [SIMULATED, *(name for name, entry in entries.items() if "schema" in entry.read)]
            )
            raise UserError(f"there is no set {self.name!r}: name one of {known}, or give --data.path.")
        beside = [
            own or (fetch(APP, said[key]) if key in said else None)
            for key, own in (("users", self.users), ("items", self.items))
        ]
        held_out = self.held_out or (fetch(APP, said["held_out"]) if "held_out" in said else None)
        log = read_log(fetch(APP, self.name), *beside)
        schema = self.schema or data_folder(APP) / said["schema"]
        return self._found(log, schema, held_out, beside, said.get("cut"))

    def _found(
        self,
        log: Log,
        schema: Path | None,
        held_out: Path | None,
        beside: Sequence[Path | None],
        cut: Sequence[Any] | None = None,
    ) -> Found:
        columns = self._chosen(Schema.load(schema)) if schema else self._guessed(log)
        guessed = schema is None and self.path is not None
        if not columns.tasks or not columns.features:
            raise UserError(f"{self}: the schema needs a task and a feature: name them.")
        columns.check([*map(str, log.frame)], str(self))
        if held_out is None:
            return Found(log.frame, columns, 0, cut, guessed)
        rest = read_log(held_out, *beside).frame
        absent = [name for name in log.frame if name not in rest]
        if absent:
            raise UserError(f"{held_out} has no column {absent[0]!r}, and {self} does: add it.")
        whole = pd.concat([log.frame, rest[list(log.frame)]], ignore_index=True)
        return Found(whole, columns, len(rest), cut, guessed)

    def _chosen(self, found: Schema) -> Schema:
        """A schema with the tasks that are asked for; the others are outcomes."""
        if self.tasks is None:
            return found
        absent = [name for name in self.tasks if name not in found.tasks]
        if absent:
            raise UserError(
                f"{self}: the schema has no task {absent[0]!r}: name some of {', '.join(found.tasks)} in "
                "--data.tasks."
            )
        tasks = {name: task for name, task in found.tasks.items() if name in self.tasks}
        return replace(found, tasks=tasks, outcomes=[*found.outcomes, *(set(found.tasks) - set(tasks))])

    def _guessed(self, log: Log) -> Schema:
        names, simulated = [*map(str, log.frame)], self.path is None and self.name == SIMULATED
        tasks = self.tasks
        if tasks is None and simulated:
            tasks = [name for name in names if name.partition("_")[0] in SHARE]
        if not tasks:
            raise UserError(f"{self}: name the labels: --data.tasks '[click, like]', or a --data.schema.")
        found = Schema.infer(log, tasks, str(self))
        if simulated:
            groups = {
                name: {"when": task.when, "group": name.partition("_")[0]}
                for name, task in found.tasks.items()
            }
            found = Schema.of({**vars(found), "tasks": groups}, str(self))
        return found
