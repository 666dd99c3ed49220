"""The self-contained report.html of a run."""

from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure


@dataclass
class Section:
    """One part of a report: title, a paragraph of text, pictures, rows of a table (all with the same keys)."""

    title: str
    text: str = ""
    figures: list[Figure] = field(default_factory=list)
    table: list[dict[str, Any]] | None = None


def write_run_report(run, task, data):
    return run.path
