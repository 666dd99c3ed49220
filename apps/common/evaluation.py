"""What the metrics script of an app writes."""

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from apps.common.console import print_rows
from apps.common.files import write_text
from apps.common.report import Section, write_report
from apps.common.runs import Run

DIGITS = 6
"""Of the figures in `metrics.json`; a figure that is not finite is null."""


class Measured(NamedTuple):
    """A table of figures: its name in `metrics.json`, its heading, what explains it, and its rows."""

    name: str
    title: str
    text: str
    rows: list[dict[str, Any]]


def show(run: Run, tables: Sequence[Measured], told: str) -> None:
    """Print tables with what explains them.

    Args:
        run: the run that was measured.
        tables: what was measured.
        told: the same in words.
    """
    for table in tables:
        print_rows(table.rows, f"{table.title}: {run.path}, {told}")
        if table.text:
            print(f"{table.text}\n")


def write_evaluation(
    run: Run,
    split: str,
    tables: Sequence[Measured],
    pictures: Sequence[Section],
    told: str,
    other: str = "",
    out: Path | None = None,
    **facts: Any,
) -> None:
    """Write `metrics.json` and `report.html` of a run, and say where.

    Args:
        run: the run that was measured.
        split: of its data.
        tables: what was measured.
        pictures: further sections of the report.
        told: what was measured, in words.
        other: name of other data than the run's own, which get a folder of their own.
        out: folder of both files; by default evaluation/<other>/<split> in that of the run.
        facts: what the figures belong to, for `metrics.json`.
    """
    folder = out or run.path / "evaluation" / other / split
    figures = {table.name: [_plain(row) for row in table.rows] for table in tables}
    text = json.dumps({"split": split, **facts, **figures}, indent=2, allow_nan=False)
    write_text(folder / "metrics.json", text + "\n")
    sections = [Section(table.title, table.text, table=table.rows) for table in tables]
    write_report(folder / "report.html", run.name, [*sections, *pictures], told)
    print(f"Report: {folder / 'report.html'}")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (float(f"{cell:.{DIGITS}g}") if isfinite(cell) else None) if isinstance(cell, float) else cell
        for name, cell in row.items()
    }
