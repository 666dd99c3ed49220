"""From the date column of a file to a regular time axis: parse, find the step, fill the gaps."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset

from apps.common.errors import UserError
from apps.timeseries.clock import DAY, WEEK, Index, duration

Step = BaseOffset | int

CALENDAR_STEPS = ("B", "MS", "ME", "QS", "QE", "YS", "YE")
GUESS_FOUND = 0.5  # an inferred step must find a row at half of its positions,
NAMED_FOUND = 0.05  # a named one at a twentieth


def parse_times(times: pd.Series, path: Path, of: str = "") -> pd.Index:
    """Read dates (20240131 too), or whole numbers as plain positions; they must increase strictly.

    of: " of series 'a'" for messages about one series of a long file.
    Raises UserError for a blank, unreadable, repeated or out-of-order entry.
    """
    numbers = pd.api.types.is_numeric_dtype(times.dtype)
    if numbers and times.between(19000101, 21001231).all():  # days written as 20240131
        times, numbers = times.astype(np.int64).astype(str), False
    parsed = times.where(times % 1 == 0).astype("Int64") if numbers else _as_dates(times, path)
    unread = parsed.isna().to_numpy()
    if unread.any():
        raise UserError(
            f"{path}: {_entry(times, unread)} in column '{times.name}' is not a "
            f"{'whole number' if numbers else 'date'}: write dates like 2024-01-31 13:00:00."
        )
    index = pd.Index(parsed)
    earlier = np.append(False, index[1:] < index[:-1])
    if earlier.any():
        raise UserError(
            f"{path}: date {_entry(times, earlier)}{of} comes before the row above: sort the rows by date."
        )
    again = np.append(False, index[1:] == index[:-1])
    if again.any():
        raise UserError(
            f"{path}: date {_entry(times, again)}{of} is there twice: keep one row for each date, "
            f"or name id_column and value_column if each row holds one series' value."
        )
    return index


def infer_step(index: pd.Index, frequency: str | None, path: Path, of: str = "") -> Step:
    """Find the step between rows, gaps allowed; a named frequency is checked against the dates.

    Raises UserError where no step fits, or where `frequency` is unknown to pandas or does not fit.
    """
    if not isinstance(index, pd.DatetimeIndex):
        return _whole_step(index, frequency, path, of)
    if frequency is not None:
        return _named_step(index, frequency, path, of)
    if len(index) < 2:
        raise UserError(f"{path}: one row{of} shows no step: add rows, or name the step with `frequency`.")
    for step in _candidates(index):
        if _share_found(index, step) >= GUESS_FOUND:
            return step
    raise UserError(
        f"{path}: the dates{of} have no regular step: "
        f"add the rows that are missing, or name the step with `frequency` (h, D, MS...)."
    )


def offset_of(frequency: str, path: Path) -> BaseOffset:
    """The step of that name. Raises UserError where pandas knows none."""
    try:
        step = to_offset(frequency)
        if step.n < 1:
            raise ValueError("a step leads forward")
    except ValueError as error:
        raise UserError(
            f"{path}: frequency '{frequency}' is not known: use a pandas offset like 15min, h, D, B, W or MS."
        ) from error
    return step


def regular_index(index: pd.Index, step: Step) -> Index:
    """Return all positions from the first to the last of `index`, those that are missing included."""
    if isinstance(step, int):
        return pd.RangeIndex(int(index[0]), int(index[-1]) + 1, step)
    return pd.date_range(index[0], index[-1], freq=step)


def step_name(step: Step) -> str | None:
    """Return the pandas name of a step of dates; None for plain positions."""
    return None if isinstance(step, int) else step.freqstr


def row_of(column: pd.Series, wrong: np.ndarray) -> int:
    """Return the file's row of the first wrong entry, counted from 1 below the header."""
    return int(column.index[int(wrong.argmax())]) + 1


def _entry(column: pd.Series, wrong: np.ndarray) -> str:
    value = column.iloc[int(wrong.argmax())]
    return f"{'(blank)' if pd.isna(value) else repr(str(value))} in row {row_of(column, wrong)}"


def _as_dates(times: pd.Series, path: Path) -> pd.Series:
    """Read ISO dates or one other format throughout; mixed offsets (summer time) become UTC.

    Raises UserError where the order of day and month cannot be told.
    """
    iso = _read_dates(times, format="ISO8601")
    if iso is not None:
        return iso
    readings = [_read_dates(times), _read_dates(times, dayfirst=True)]
    found = [dates for dates in readings if dates is not None]
    rising = [dates for dates in found if dates.is_monotonic_increasing] or found
    if len(rising) == 2 and not rising[0].equals(rising[1]):
        raise UserError(
            f"{path}: column '{times.name}' may be read day or month first: write dates like 2024-01-31."
        )
    found = rising or [
        dates for dates in [_read_dates(times, format="ISO8601", utc=True)] if dates is not None
    ]
    return found[0] if found else pd.to_datetime(times, errors="coerce", utc=True)


def _read_dates(times: pd.Series, **how: Any) -> pd.Series | None:
    """The dates, read in one way throughout; None where they are not so written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Parsing dates in|Could not infer format")
        try:
            return pd.to_datetime(times, **how)
        except ValueError:
            return None


def _whole_step(index: pd.Index, frequency: str | None, path: Path, of: str) -> int:
    if frequency is not None:
        raise UserError(
            f"{path}: `frequency` needs dates, and the time column{of} holds numbers: leave it out."
        )
    steps = np.diff(index.to_numpy(np.int64))
    step = int(np.gcd.reduce(steps)) if len(steps) else 1
    if len(index) < GUESS_FOUND * ((index[-1] - index[0]) // step + 1):
        raise UserError(f"{path}: the time column{of} has no regular step: number the rows 0, 1, 2...")
    return step


def _named_step(index: pd.DatetimeIndex, frequency: str, path: Path, of: str) -> BaseOffset:
    step = offset_of(_weekly(index) if frequency == "W" else frequency, path)
    if _share_found(index, step) < NAMED_FOUND:
        raise UserError(
            f"{path}: the dates{of} do not lie on frequency '{frequency}', or fill hardly any of it: "
            f"name the step of the dates, or leave `frequency` out."
        )
    return step


def _candidates(index: pd.DatetimeIndex) -> list[BaseOffset]:
    """Steps worth trying: what fits without gaps, then calendar steps, then the commonest difference."""
    common = index.to_series().diff().mode().iloc[0]
    names = [pd.infer_freq(index)] if len(index) > 2 else []
    names += CALENDAR_STEPS if common >= DAY else ()
    names += [_weekly(index)] if common == WEEK else []
    last = f"{common // DAY}D" if common % DAY == pd.Timedelta(0) else common
    return [to_offset(name) for name in names if name] + [to_offset(last)]


def _weekly(index: pd.DatetimeIndex) -> str:
    return f"W-{index[0].day_name()[:3].upper()}"


def _share_found(index: pd.DatetimeIndex, step: BaseOffset) -> float:
    """The share of the step's positions that have a row; 0 where a row lies beside them."""
    positions = (index[-1] - index[0]) / duration(step.freqstr) + 1
    if len(index) < NAMED_FOUND / 2 * positions:
        return 0.0
    grid = pd.date_range(index[0], index[-1], freq=step)
    return len(index) / len(grid) if len(grid) and index.isin(grid).all() else 0.0
