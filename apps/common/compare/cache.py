"""Finished cells on disk."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from apps.common.compare.cells import Cell, Finished
from apps.common.files import write_text


class Cache:
    """A folder with one JSON file for each finished cell, named by the cell's key.

    A file also holds the cell's configuration, for a reader; only its name decides what it is found by. Where
    the folder has no such file, the archives are asked.

    Args:
        folder: of the files.
        archives: files with finished cells, see `write_archive`; those that are absent are left out.
    """

    def __init__(self, folder: Path, archives: Iterable[Path] = ()) -> None:
        self.folder = folder
        self.archived = {key: kept for path in archives for key, kept in read_archive(path).items()}

    def path(self, cell: Cell) -> Path:
        """Return where a finished cell stands."""
        return self.folder / f"{cell.key}.json"

    def load(self, cell: Cell) -> Finished | None:
        """Return the finished cell, or None where it has not been run to its end or cannot be read."""
        try:
            return Finished.from_json(json.loads(self.path(cell).read_text(encoding="utf-8"))["finished"])
        except (FileNotFoundError, ValueError, KeyError):
            return self.archived.get(cell.key)

    def store(self, cell: Cell, finished: Finished) -> None:
        """Write a finished cell, whole or not at all."""
        content = {"cell": asdict(cell), "finished": finished.to_json()}
        write_text(self.path(cell), json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_archive(path: Path) -> dict[str, Finished]:
    """Return the finished cells of an archive by key; none where there is no such file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {entry["key"]: Finished.from_json(entry["finished"]) for entry in map(json.loads, lines)}


def write_archive(path: Path, finished: dict[str, Finished]) -> None:
    """Write finished cells, a line each in the order of their keys.

    It is committed beside the result file, so that nothing that a comparison has measured is run again on
    another machine, and every figure can be computed from it anew.
    """
    entries = [{"key": key, "finished": finished[key].to_json()} for key in sorted(finished)]
    lines = [json.dumps(entry, allow_nan=False, separators=(",", ":")) for entry in entries]
    write_text(path, "".join(f"{line}\n" for line in lines))
