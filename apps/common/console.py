"""Tables on the screen."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from rich.console import Console
from rich.table import Table

WIDEST = 10_000
"""Columns of what is no terminal."""


def print_rows(rows: Sequence[dict[str, Any]], title: str) -> None:
    """Print rows with the same keys as a table: numbers with a fraction with four digits of it, nothing known
    as a dash. Nothing is cut off; what is no terminal is as wide as the table."""
    grid = Table(title=title, title_justify="left")
    for i, name in enumerate(rows[0]):
        grid.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(_cell, row.values()))
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, len(title), Console(width=WIDEST).measure(grid).maximum))
    console.print(grid)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
