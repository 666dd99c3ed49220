"""Columns of a stream as numbers: what a network and trees can read of numbers, words and times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from apps.common.errors import UserError

Kind = Literal["number", "category", "time", "cycle"]
Row = Mapping[str, Any]
"""The cells of a row by the names of their columns."""

SLOTS = 16
"""Columns for the values of a category; further values share them."""
WAVES = ("sine", "cosine")
PERIODS = ("day", "week", "year")
"""A time is told by its place in each: a sine and a cosine."""

MOSTLY = 0.95
"""Share of the first cells of a column that must be numbers, or times, for it to be a column of these."""
MOST_CODES = 10_000
"""Values of a category that are kept apart; later ones are as one."""

MOST = 1e15
"""A number beyond is taken for a fault: it would drown all others in single precision."""
FAR, SETTLED = 50.0, 100
"""Deviations from the mean so far at which a number is cut, and how many numbers must have come before."""


@dataclass
class Column:
    """One column, and what of it has been seen.

    codes: values of a category, numbered as they came; count, mean, squares, least and most: of the numbers
    so far, squares their squared deviations; odd: cells that were none of the kind; blank: those that held
    nothing; far: numbers that were cut; length: of a cycle, after which a number stands where it stood.
    """

    name: str
    kind: Kind
    codes: dict[str, int] = field(default_factory=dict)
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    odd: int = 0
    blank: int = 0
    far: int = 0
    length: float = 1.0

    @property
    def features(self) -> list[str]:
        """The names of the numbers that a cell becomes."""
        if self.kind == "number":
            return [self.name]
        if self.kind == "category":
            return [f"{self.name}={slot}" for slot in range(SLOTS)]
        if self.kind == "cycle":
            return [f"{self.name}: {wave}" for wave in WAVES]
        return [f"{self.name}: {wave} of {period}" for period in PERIODS for wave in WAVES]

    def take_in(self, cell: Any) -> None:
        """Learn of a cell."""
        if is_missing(cell):
            return
        number = as_number(cell)
        if self.kind == "category" and len(self.codes) < MOST_CODES:
            self.codes.setdefault(as_text(cell), len(self.codes))
        elif self.kind == "number" and not math.isnan(number):
            cut = self._within(number)
            self.far += cut != number
            self.count += 1
            off = cut - self.mean
            self.mean += off / self.count
            self.squares += off * (cut - self.mean)
            self.least, self.most = min(self.least, cut), max(self.most, cut)

    def check(self, cell: Any) -> None:
        """Count a cell that holds nothing, or nothing of the kind."""
        if is_missing(cell):
            self.blank += 1
        elif self.kind == "time":
            self.odd += as_time(cell) is None
        elif self.kind != "category":
            self.odd += math.isnan(as_number(cell))

    def encode(self, cell: Any) -> list[float]:
        """The numbers of a cell. A missing number is the mean so far, anything else missing is all zeros."""
        if self.kind == "number":
            return [self._number(cell)]
        if self.kind == "category":
            return self._category(cell)
        return self._cycle(cell) if self.kind == "cycle" else self._time(cell)

    def _number(self, cell: Any) -> float:
        number = as_number(cell)
        return self.mean if math.isnan(number) else self._within(number)

    def _within(self, number: float) -> float:
        """A number, not further off than FAR or than one before; of a column that never changed, as it is."""
        deviation = math.sqrt(self.squares / self.count) if self.count >= SETTLED else 0.0
        if deviation <= 1e-9 * abs(self.mean):
            return number
        low, high = self.mean - FAR * deviation, self.mean + FAR * deviation
        return min(max(number, min(low, self.least)), max(high, self.most))

    def _category(self, cell: Any) -> list[float]:
        places = [0.0] * SLOTS
        if not is_missing(cell):
            places[self.codes.get(as_text(cell), len(self.codes)) % SLOTS] = 1.0
        return places

    def _cycle(self, cell: Any) -> list[float]:
        number = as_number(cell)
        return [0.0] * len(WAVES) if math.isnan(number) else _waves(number / self.length)

    def _time(self, cell: Any) -> list[float]:
        time = as_time(cell)
        if time is None:
            return [0.0] * (len(WAVES) * len(PERIODS))
        day = (time.hour + time.minute / 60) / 24
        places = (day, (time.weekday() + day) / 7, (time.timetuple().tm_yday + day) / 365.25)
        return [wave for place in places for wave in _waves(place)]


class Schema:
    """The columns of a stream, fixed by its first rows; what is learned of their cells goes on.

    A column that a later row lacks counts as missing there, one that is new is not read.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = list(columns)
        self.lacking: dict[str, int] = {}

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        but: Iterable[str] = (),
        categories: Iterable[str] = (),
        cycles: Mapping[str, float] | None = None,
    ) -> Schema:
        """Tell the kind of each column from some rows; all columns `but` some, by name.

        Args:
            rows: the first of the stream.
            but: columns that are no features.
            categories: columns whose cells are codes, whatever they look like.
            cycles: columns whose numbers come round, as hours do, each with the length of its cycle.
        """
        names = sorted({str(name) for row in rows for name in row} - set(but))
        found = {name: Column(name, _kind([row.get(name) for row in rows])) for name in names}
        found |= {name: Column(name, "category") for name in categories if name in found}
        told = (cycles or {}).items()
        found |= {name: Column(name, "cycle", length=length) for name, length in told if name in found}
        return cls(list(found.values()))

    @property
    def features(self) -> list[str]:
        """The names of what `encode` gives."""
        return [feature for column in self.columns for feature in column.features]

    def encode(self, rows: Iterable[Row]) -> Tensor:
        """Rows as (n, features) float32, by what is known now."""
        return self._tensor([self._encode(row) for row in rows])

    def take_in(self, rows: Iterable[Row]) -> Tensor:
        """The same, each row by what the rows before it told; then learn of its cells."""
        table = []
        for row in rows:
            table.append(self._encode(row))
            for column in self.columns:
                column.take_in(row.get(column.name))
        return self._tensor(table)

    def check(self, rows: Iterable[Row]) -> None:
        """Count what `notes` tells of, in rows with and without a label."""
        for row in rows:
            for column in self.columns:
                if column.name in row:
                    column.check(row[column.name])
                else:
                    self.lacking[column.name] = self.lacking.get(column.name, 0) + 1

    def _encode(self, row: Row) -> list[float]:
        return [number for column in self.columns for number in column.encode(row.get(column.name))]

    def _tensor(self, table: list[list[float]]) -> Tensor:
        return torch.tensor(table, dtype=torch.float32).view(len(table), len(self.features))

    def notes(self) -> list[str]:
        """What a user should know of the columns, in sentences."""
        odd = [(c.name, f"{c.odd} cells hold no {c.kind}") for c in self.columns if c.odd]
        odd += [(c.name, f"{c.blank} cells hold nothing") for c in self.columns if c.blank]
        lacking = [(name, f"{rows} rows do not have it") for name, rows in sorted(self.lacking.items())]
        missing = [f"column {name}: {what}; they count as missing" for name, what in odd + lacking]
        far = [(c.name, c.far) for c in self.columns if c.far]
        return missing + [
            f"column {name}: {cells} numbers lie over {FAR:g} deviations off; they count as that far"
            for name, cells in far
        ]

    def state(self) -> dict[str, Any]:
        """Return plain values that `from_state` reads back; what `notes` tells of begins anew."""
        told = ("odd", "blank", "far")
        kept = [{key: value for key, value in asdict(c).items() if key not in told} for c in self.columns]
        return {"columns": kept}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Schema:
        """Rebuild from `state`. Raises `UserError` where another version has written it."""
        try:
            return cls([Column(**column) for column in state["columns"]])
        except (KeyError, TypeError) as error:
            raise UserError(
                "the columns of this run or state were kept by another version: train again, or begin anew."
            ) from error


def _waves(place: float) -> list[float]:
    """Sine and cosine of a place in a cycle of length 1."""
    return [math.sin(2 * math.pi * place), math.cos(2 * math.pi * place)]


def is_missing(cell: Any) -> bool:
    """Whether a cell is blank."""
    if isinstance(cell, str | float):
        return cell == "" or cell != cell
    return cell is None or cell is pd.NaT or cell is pd.NA


def as_number(cell: Any) -> float:
    """A cell as a number up to MOST, NaN where it is none.

    >>> as_number("2.5"), as_number(True), as_number("up"), as_number(float("inf"))
    (2.5, 1.0, nan, nan)
    """
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if abs(number) <= MOST else math.nan


def as_text(cell: Any) -> str:
    """A cell as text: 1.0 and 1 are the same.

    >>> as_text(1.0), as_text(True), as_text("up")
    ('1', 'True', 'up')
    """
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def as_time(cell: Any) -> datetime | None:
    """A cell as a time, None where it is none."""
    if isinstance(cell, datetime):
        return None if cell is pd.NaT else cell
    if isinstance(cell, date):
        return datetime.combine(cell, time())
    if not isinstance(cell, str) or is_missing(cell):
        return None
    try:
        return datetime.fromisoformat(cell)
    except ValueError:
        return None


def _kind(cells: Sequence[Any]) -> Kind:
    known = [cell for cell in cells if not is_missing(cell)]
    enough = MOSTLY * len(known)
    if sum(not math.isnan(as_number(cell)) for cell in known) >= enough:
        return "number"
    return "time" if sum(as_time(cell) is not None for cell in known) >= enough else "category"
