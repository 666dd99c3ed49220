"""What a benchmark measured, in the form of every result file."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.common.compare.environment import environment
from apps.common.compare.results import read_results
from apps.common.compare.schema import Results, Row
from apps.common.discovery import project_root
from apps.common.files import write_text
from apps.common.markdown import between
from apps.common.revision import commit


def row(data: str, arm: str, metric: str, value: float, slice_: str = "all", **known: Any) -> Row:
    """One measurement; lower is better, and nothing is known of its cost, unless told."""
    blank = Row(
        data=data,
        slice=slice_,
        arm=arm,
        seed=0,
        metric=metric,
        value=value,
        higher_is_better=False,
        active_params=None,
        total_params=None,
        active_flops=None,
        train_seconds=None,
        peak_memory_mb=None,
    )
    return Row(**{**blank, **known})  # type: ignore[typeddict-item]


@dataclass(frozen=True)
class Page:
    """A page that has the tables of a result file between the lines of a marker."""

    path: Path
    marker: str
    file: Path
    tables: Callable[[Results], str]

    def fresh(self) -> str:
        """The page as the file has it."""
        text = self.tables(read_results(self.file)) if self.file.exists() else "Not measured yet."
        return between(self.marker, text, self.path.read_text(encoding="utf-8"))

    def refresh(self) -> None:
        """Write the tables anew."""
        write_text(self.path, self.fresh())


def results(app: str, command: str, rows: Sequence[Row], budget: dict[str, Any]) -> Results:
    """The content of a result file that is written now."""
    return Results(
        app=app,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=commit(project_root()),
        command=command,
        environment=environment(),
        data={},
        budget=budget,
        rows=list(rows),
    )
