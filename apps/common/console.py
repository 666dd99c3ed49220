"""Tables on the screen."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_rows(rows: Sequence[dict[str, Any]], title: str) -> None:
    """Print rows with the same keys as a table; numbers with a fraction get four digits of it."""
    grid = Table(title=title, title_justify="left")
    for i, name in enumerate(rows[0]):
        grid.add_column(name, justify="right" if i else "left")
    for row in rows:
        grid.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(grid)
