"""Which rows train, validate and test: the conventions of the long-horizon literature, and M4's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Literal, NamedTuple, get_args

from lightning.pytorch.utilities import rank_zero_warn

from apps.common.errors import UserError
from apps.timeseries.clock import DAY, duration
from apps.timeseries.tables import Table

Part = Literal["train", "validation", "test"]
Split = Literal["ratio", "ett", "last"]
Ratios = tuple[float, float, float]

ETT_MONTHS = (12, 16, 20)  # of 30 days each, counted from the first row


class Borders(NamedTuple):
    """The row after the last one of each part; each part begins where the one before it ends."""

    train: int
    validation: int
    test: int

    @property
    def tests(self) -> bool:
        """Whether any row is left to test."""
        return self.test > self.validation

    def span(self, part: Part, context: int) -> tuple[int, int]:
        """Return the rows (begin, end) that windows of a part may touch.

        Targets stay inside the part; the context of validation and test reaches back over the border.
        """
        if part == "train":
            return 0, self.train
        begin, end = (self.train, self.validation) if part == "validation" else (self.validation, self.test)
        return max(0, begin - context), end

    def earlier(self, lengths: int) -> Borders:
        """The same so many lengths of the validation part earlier, without rows to test.

        Raises ValueError where nothing is left to train on.
        """
        back = lengths * (self.validation - self.train)
        if back >= self.train:
            raise ValueError(f"no row is left to train on, {lengths} lengths of the validation part earlier")
        return (
            self
            if not lengths
            else Borders(self.train - back, self.validation - back, self.validation - back)
        )

    def hold(self, context: int, horizon: int, parts: Sequence[Part] = get_args(Part)) -> bool:
        """Tell whether each of these parts has at least one window."""
        spans = [self.span(part, context) for part in parts]
        return all(end - begin >= context + horizon for begin, end in spans)


def ratio_borders(rows: int, ratios: Ratios = (0.7, 0.1, 0.2)) -> Borders:
    """Split n rows: the first int(0.7 n) train, the last int(0.2 n) test, those between validate.

    Source: Autoformer (Wu et al. 2021), custom data sets.
    """
    train, _, test = ratios
    return Borders(int(rows * train), rows - int(rows * test), rows)


def ett_borders(frequency: str) -> Borders:
    """Split as the ETT sets are: 12, 4 and 4 months of 30 days; rows after them are left unused.

    Source: Informer (Zhou et al. 2021), section 5.1; the hourly borders are 8640, 11520, 14400.
    """
    steps_a_day = round(DAY / duration(frequency))
    return Borders(*(months * 30 * steps_a_day for months in ETT_MONTHS))


def last_borders(rows: int, horizon: int) -> Borders:
    """Validate on the last horizon; the rows to test are in a file of their own, as in M4."""
    return Borders(rows - horizon, rows, rows)


def rows_needed(context: int, horizon: int, ratios: Ratios) -> int:
    """Return the least number of rows whose ratio split has a window in each part."""
    enough = (n for n in count(context + horizon) if ratio_borders(n, ratios).hold(context, horizon))
    return next(enough)


def split_tables(
    tables: Sequence[Table], split: Split, ratios: Ratios, context: int, horizon: int
) -> list[tuple[Table, Borders]]:
    """Pair each table with its borders.

    Tables too short for a window in each part are left out with a warning.
    Raises UserError where no table is long enough, or the ETT borders are asked of dates they do not fit.
    """
    if split == "ratio" and (min(ratios) <= 0 or abs(sum(ratios) - 1) > 1e-6):
        raise UserError(
            f"ratios {list(ratios)} must be three positive numbers with sum 1, such as [0.7, 0.1, 0.2]."
        )
    pairs = [(table, _borders(table, split, ratios, horizon)) for table in tables]
    parts: tuple[Part, ...] = ("train", "validation") if split == "last" else get_args(Part)
    long_enough = [
        (table, borders)
        for table, borders in pairs
        if borders.test <= len(table.values) and borders.hold(context, horizon, parts)
    ]
    if not long_enough:
        raise UserError(
            _too_short(*max(pairs, key=lambda pair: len(pair[0].values)), split, ratios, context, horizon)
        )
    if left_out := len(tables) - len(long_enough):
        rank_zero_warn(f"{tables[0].source}: {left_out} of {len(tables)} series are too short and left out.")
    return long_enough


def _borders(table: Table, split: Split, ratios: Ratios, horizon: int) -> Borders:
    if split == "ratio":
        return ratio_borders(len(table.values), ratios)
    if split == "last":
        return last_borders(len(table.values), horizon)
    if table.frequency is None or duration(table.frequency) > DAY:
        raise UserError(
            f"{table.source}: the ETT borders count days, and its rows are not so timed: split by ratio."
        )
    return ett_borders(table.frequency)


def _too_short(
    table: Table, borders: Borders, split: Split, ratios: Ratios, context: int, horizon: int
) -> str:
    rows = len(table.values)
    asked = f"context {context} and horizon {horizon}"
    if split == "ratio":
        needed = rows_needed(context, horizon, ratios)
        return (
            f"{table.source}: has {rows} rows, absent ones counted, and {asked} need {needed} for a window "
            f"in each part of the split {list(ratios)}: add rows, or lower data.context and data.horizon."
        )
    if split == "last":
        return (
            f"{table.source}: has {rows} rows and {asked} need {context + 2 * horizon} for a window "
            "to train on before the last one: add rows, or lower data.context and data.horizon."
        )
    if rows < borders.test:
        return f"{table.source}: has {rows} rows and the ETT borders need {borders.test}: split by ratio."
    return f"{table.source}: {asked} do not fit the ETT borders {tuple(borders)}: make the two shorter."
