"""A logger that writes metrics.csv, and goes on with it after a restart."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from apps.common.files import replacing

Row = dict[str, str]
Curve = tuple[Sequence[float], Sequence[float]]
"""x and y of a line."""


class MetricsFile(Logger):
    """One row a logging call, one column a metric, columns in order of appearance after `step`.

    Args:
        path: of the file; rows are appended, and survive a kill once written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = []
        self._new: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """Empty: the file lies directly in the run folder."""
        return ""

    @property
    def version(self) -> str:
        """Empty: the file lies directly in the run folder."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    log_dir = save_dir

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row, written by the next `save`."""
        self._new.append({"step": step, **metrics})

    @rank_zero_only
    def save(self) -> None:
        """Append the new rows; rewrite the file, in one step, when they bring new columns."""
        added = [
            key for key in dict.fromkeys(k for row in self._new for k in row) if key not in self._columns
        ]
        if added:
            rows = read_rows(self.path)
            self._columns += added
            self._rewrite(rows)
        if self._new:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerows(self._new)
            self._new.clear()

    @rank_zero_only
    def keep_before(self, step: int) -> None:
        """Drop the rows of step `step` and later, and half-written ones, to go on from that step."""
        rows = [row for row in read_rows(self.path) if int(row["step"]) < step]
        self._columns = list(dict.fromkeys(key for row in rows for key, value in row.items() if value != ""))
        self._rewrite(rows)

    def _rewrite(self, rows: list[Row]) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """Return the whole rows of a metrics file, in order, as text; none where there is no file.

    A last line that a kill cut short is left out.
    """
    if not path.is_file():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0].decode()
    return list(csv.DictReader(whole.splitlines()))


def read_curves(rows: Sequence[Row], prefix: str = "") -> dict[str, Curve]:
    """Return name -> (steps, values) of the metrics with that prefix, or of all but the routing's."""
    lines: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for row in rows:
        for name, value in row.items():
            wanted = name.startswith(prefix) if prefix else not name.startswith("routing/")
            if value != "" and wanted and name not in ("step", "epoch"):
                lines[name][0].append(int(row["step"]) + 1)
                lines[name][1].append(float(value))
    return dict(lines)
