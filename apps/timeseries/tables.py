"""Read a user's file of series: a column a series (wide), a row a value (long), or a row a series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from apps.common.errors import UserError
from apps.common.frames import read_frame
from apps.timeseries.clock import Index
from apps.timeseries.dates import infer_step, offset_of, parse_times, regular_index, row_of, step_name

DATE_NAMES = ("date", "datetime", "timestamp", "time", "ds")


@dataclass(frozen=True)
class Table:
    """Series that share one time axis.

    values: (T, C) float64, NaN where nothing was observed. index: (T,) regular, dates or plain positions.
    names: C series. frequency: a pandas offset such as "h", None where the axis has no clock. path: the file.
    """

    values: np.ndarray
    index: Index
    names: tuple[str, ...]
    frequency: str | None = None
    path: Path | None = None

    @property
    def source(self) -> str:
        """What messages call this table: its file, or the simulation."""
        return str(self.path) if self.path else "the simulated series"

    def future(self, steps: int) -> Index:
        """The `steps` positions of the time axis after the last row."""
        if isinstance(self.index, pd.DatetimeIndex):
            return pd.date_range(self.index[-1], periods=steps + 1, freq=self.frequency)[1:]
        step = self.index.step
        return pd.RangeIndex(self.index[-1] + step, self.index[-1] + (steps + 1) * step, step)

    def reaching_back(self, rows: int) -> Table:
        """The same table with at least `rows` rows: what lies before the first one is missing."""
        lacking = rows - len(self.values)
        if lacking <= 0:
            return self
        blank = np.full((lacking, len(self.names)), np.nan)
        if isinstance(self.index, pd.DatetimeIndex):
            index: Index = pd.date_range(end=self.index[-1], periods=rows, freq=self.frequency)
        else:
            first, step = self.index.start, self.index.step
            index = pd.RangeIndex(first - lacking * step, self.index.stop, step)
        return replace(self, values=np.vstack([blank, self.values]), index=index)


def read_tables(path: Path, *, header: bool = True, by_row: bool = False, **layout: Any) -> list[Table]:
    """Read a CSV or parquet file (`.gz` too), headed or not; the rest as in `tables_from`."""
    path = Path(path)
    return tables_from(read_frame(path, header), path, by_row, **layout)


def tables_from(frame: pd.DataFrame, path: Path, by_row: bool, **layout: Any) -> list[Table]:
    """`tables_by_row` or `tables_of`. Raises UserError for a layout that rows of series cannot have."""
    if not by_row:
        return tables_of(frame, path, **layout)
    frequency = layout.pop("frequency", None)
    told = [name for name, value in layout.items() if value is not None]
    if told:
        raise UserError(
            f"{path}: `by_row` reads a series from each row, which has no `{told[0]}`: leave one of them out."
        )
    return tables_by_row(frame, path, frequency)


def tables_by_row(frame: pd.DataFrame, path: Path, frequency: str | None = None) -> list[Table]:
    """Turn each row into a table: a series' name, its values without dates, and blanks after its end.

    Other blanks are missing values. frequency: tells the season; there is no clock.

    Raises UserError for a series without values or with the name of another, a cell that is no number, or an
    unknown frequency.
    """
    if frequency is not None:
        offset_of(frequency, path)
    names = [str(name) for name in frame.iloc[:, 0]]
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise UserError(f"{path}: two rows are called '{twice}': give each series a name of its own.")
    tables = []
    for name, row in zip(names, np.array(_numbers(frame.iloc[:, 1:], path)), strict=True):
        known = np.flatnonzero(~np.isnan(row))
        if not len(known):
            raise UserError(f"{path}: '{name}' has no value at all: fill it, or take the row out.")
        values = row[: known[-1] + 1, None]
        tables.append(Table(values, pd.RangeIndex(len(values)), (name,), frequency, path))
    return tables


def tables_of(
    frame: pd.DataFrame,
    path: Path,
    *,
    date_column: str | None = None,
    columns: Sequence[str] | None = None,
    id_column: str | None = None,
    value_column: str | None = None,
    frequency: str | None = None,
) -> list[Table]:
    """Turn the rows of a file into tables: one for a wide file, one a series for a long file.

    path: what messages call the file.
    date_column: found by its usual names when None; "none" says that rows are equally spaced and undated.
    columns: the series to keep (all by default). id_column and value_column: given together for long files.
    frequency: a pandas offset; inferred from the dates when None.
    Rows that the frequency expects and the file lacks come back as NaN, as do blank cells.

    Raises UserError, naming the file and the mend, for anything that cannot be read as regular series.
    """
    if (id_column is None) != (value_column is None):
        raise UserError(f"{path}: a long file needs both id_column and value_column: give the other one too.")
    date = _date_column(frame, path, date_column)
    if date is None and frequency is not None:
        raise UserError(
            f"{path}: `frequency` needs dates and `date_column` is none: leave one of the two out."
        )
    if id_column is not None and value_column is not None:
        return _long(frame, path, date, id_column, value_column, columns, frequency)
    names = [name for name in frame.columns if name != date]
    if columns is not None:
        names = _known(columns, names, path, "column")
    if not names:
        raise UserError(f"{path}: there is no column of values beside the dates: add at least one.")
    times = None if date is None else frame[date]
    return [_table(path, times, _numbers(frame[names], path), frequency)]


def _long(
    frame: pd.DataFrame,
    path: Path,
    date: str | None,
    id_column: str,
    value_column: str,
    wanted: Sequence[str] | None,
    frequency: str | None,
) -> list[Table]:
    _known([id_column, value_column], list(frame.columns), path, "column")
    blank = frame[id_column].isna().to_numpy()
    if blank.any():
        where = row_of(frame[id_column], blank)
        raise UserError(
            f"{path}: column '{id_column}' is blank in row {where}: write the name of the series."
        )
    numbers = _numbers(frame[[value_column]], path)
    groups = {str(name): rows.index for name, rows in frame.groupby(id_column, sort=False)}
    names = list(groups) if wanted is None else _known(wanted, list(groups), path, "series")
    tables: dict[str, Table] = {}
    for name in sorted(names, key=lambda name: len(groups[name]) == 1):
        rows = groups[name]
        times = None if date is None else frame.loc[rows, date]
        values = numbers.loc[rows].set_axis([name], axis=1)
        step = frequency if len(rows) > 1 else frequency or _commonest_step(tables.values())
        tables[name] = _table(path, times, values, step, f" of series '{name}'")
    return [tables[name] for name in names]


def _commonest_step(tables: Iterable[Table]) -> str | None:
    """What a series of one row, which shows no step, takes over from the others."""
    steps = Counter(table.frequency for table in tables if table.frequency is not None)
    return steps.most_common(1)[0][0] if steps else None


def _table(
    path: Path, times: pd.Series | None, numbers: pd.DataFrame, frequency: str | None, of: str = ""
) -> Table:
    empty = numbers.columns[numbers.isna().all()]
    if len(empty):
        raise UserError(f"{path}: '{empty[0]}' has no value at all: fill it, or leave it out with `columns`.")
    values, names = numbers.to_numpy(), tuple(numbers.columns)
    if times is None:
        return Table(values, pd.RangeIndex(len(values)), names, None, path)
    observed = parse_times(times, path, of)
    step = infer_step(observed, frequency, path, of)
    index = regular_index(observed, step)
    filled = np.full((len(index), len(names)), np.nan)
    filled[index.get_indexer(observed)] = values
    return Table(filled, index, names, step_name(step), path)


def _numbers(columns: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The columns as float64, blanks as NaN."""
    numbers = pd.DataFrame({name: pd.to_numeric(columns[name], errors="coerce") for name in columns})
    numbers = numbers.astype(np.float64)
    wrong = (numbers.isna() & columns.notna()) | np.isinf(numbers)
    if wrong.any(axis=None):
        name = columns.columns[wrong.any()][0]
        rows = wrong[name].to_numpy()
        words_alone = numbers[name].isna().all() and len(numbers.columns) > 1
        long_file = ", or, in a long file, name `id_column` and `value_column`" if words_alone else ""
        raise UserError(
            f"{path}: column '{name}' holds '{columns[name].iloc[int(rows.argmax())]}' in row "
            f"{row_of(columns[name], rows)}, which is not a finite number: correct it (a decimal point, no "
            "thousands separators), leave the cell blank, "
            f"leave the column out with `columns`{long_file}."
        )
    return numbers


def usual_format(frame: pd.DataFrame, trained: Mapping[str, Any]) -> dict[str, str]:
    """Of the columns that a run was trained with, those that this frame has too: date, id and value column.

    A run without dates passes that on to a frame that has no date column by its usual names.
    """
    found = {
        key: str(trained[key])
        for key in ("date_column", "id_column", "value_column")
        if trained.get(key) in set(frame.columns)
    }
    undated = (trained.get("date_column") or "").lower() == "none"
    return {"date_column": "none"} if undated and _usual_date(frame) is None else found


def _date_column(frame: pd.DataFrame, path: Path, named: str | None) -> str | None:
    if named is not None and named.lower() == "none":
        return None
    if named is not None:
        return _known([named], list(frame.columns), path, "column")[0]
    usual = _usual_date(frame)
    if usual is not None:
        return usual
    raise UserError(
        f"{path}: no date column among {_listed(list(frame.columns))}: name it with `date_column`, "
        f"or say `date_column: none` for equally spaced rows without dates."
    )


def _usual_date(frame: pd.DataFrame) -> str | None:
    return next((str(name) for name in frame.columns if str(name).strip().lower() in DATE_NAMES), None)


def _known(wanted: Sequence[str], have: list[str], path: Path, what: str) -> list[str]:
    for place, name in enumerate(wanted):
        if name in wanted[:place]:
            raise UserError(f"{path}: {what} '{name}' is named twice: name it once.")
        if name not in have:
            raise UserError(f"{path}: there is no {what} '{name}': choose among {_listed(have)}.")
    return list(wanted)


def _listed(names: list[str], most: int = 12) -> str:
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
