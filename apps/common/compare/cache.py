"""Finished cells on disk."""

import json
from dataclasses import asdict
from pathlib import Path

from apps.common.compare.cells import Cell, Finished
from apps.common.files import write_text


class Cache:
    """A folder with one JSON file for each finished cell, named by the cell's key.

    A file also holds the cell's configuration, for a reader; only its name decides what it is found by.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, cell: Cell) -> Path:
        """Return where a finished cell stands."""
        return self.folder / f"{cell.key}.json"

    def load(self, cell: Cell) -> Finished | None:
        """Return the finished cell, or None where it has not been run to its end or cannot be read."""
        try:
            return Finished.from_json(json.loads(self.path(cell).read_text(encoding="utf-8"))["finished"])
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def store(self, cell: Cell, finished: Finished) -> None:
        """Write a finished cell, whole or not at all."""
        content = {"cell": asdict(cell), "finished": finished.to_json()}
        write_text(self.path(cell), json.dumps(content, indent=1, allow_nan=False) + "\n")
