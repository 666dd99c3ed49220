"""The ledger: every opening of a test split, written down before it happens."""

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from apps.common.compare.cells import Cell
from apps.common.compare.schema import Tested


class Opening(NamedTuple):
    """One call of `Fitted.test()`."""

    data: str
    arm: str
    configuration: str
    seed: int
    at: str


class Ledger:
    """A file that only grows: one JSON line an opening. Clearing the cells does not touch it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open_test(self, cell: Cell) -> None:
        """Note that a cell is about to open its test split; on disk before this returns."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        line = json.dumps(Opening(cell.data, cell.arm, cell.configuration, cell.seed, now)._asdict()) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def openings(self) -> set[Opening]:
        """Return every opening noted so far."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return {Opening(**json.loads(line)) for line in lines}


def openings_in(tested: Iterable[Tested]) -> set[Opening]:
    """Return the openings that a result file holds: its history outlives the ledger of one machine."""
    return {
        Opening(entry["data"], entry["arm"], entry["configuration"], opening["seed"], opening["at"])
        for entry in tested
        for opening in entry["openings"]
    }


def summarise(openings: Iterable[Opening], current: set[str]) -> list[Tested]:
    """Count the openings of each configuration; `current` are those whose figures are reported."""
    groups: dict[tuple[str, str, str], list[Opening]] = {}
    for opening in sorted(openings, key=lambda opening: (opening.at, opening)):
        groups.setdefault(opening[:3], []).append(opening)
    return [
        Tested(
            data=data,
            arm=arm,
            configuration=configuration,
            current=configuration in current,
            times=len(group),
            last=group[-1].at,
            openings=[{"seed": opening.seed, "at": opening.at} for opening in group],
        )
        for (data, arm, configuration), group in groups.items()
    ]
