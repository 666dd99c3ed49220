"""The self-contained report.html of a run."""

from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure


@dataclass
class Section:
    """One part of a report: a title, a paragraph of text, pictures, and rows of a table (equal keys in each row)."""

    title: str
    text: str = ""
    figures: list[Figure] = field(default_factory=list)
    table: list[dict[str, Any]] | None = None
