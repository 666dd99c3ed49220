"""What a clock tells of a regular time axis: the length of a step, the natural season, hour and weekday."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

Index = pd.DatetimeIndex | pd.RangeIndex

DAY, WEEK, YEAR = pd.Timedelta("1D"), pd.Timedelta("7D"), pd.Timedelta("365.25D")


def duration(frequency: str) -> pd.Timedelta:
    """Return the mean length of a step: 1.4 days for business days, 30.4 for months."""
    step = to_offset(frequency)
    start = pd.Timestamp("2001-01-01") + step
    return (start + 20 * step - start) / 20


def season(frequency: str | None) -> int:
    """Return the steps in a natural cycle: a day for hours, a week for days, else a year; 1 with no clock."""
    if frequency is None:
        return 1
    step = duration(frequency)
    cycle = next((cycle for cycle in (DAY, WEEK, YEAR) if cycle >= 2 * step), step)
    return round(cycle / step)


def hour_and_weekday(index: Index, frequency: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return hour and weekday (0 is Monday) of each row, (T,) int64; -1 where a step is too long to tell."""
    unknown = np.full(len(index), -1, dtype=np.int64)
    if frequency is None or not isinstance(index, pd.DatetimeIndex):
        return unknown, unknown
    step = duration(frequency)
    hour = index.hour.to_numpy(np.int64) if step < DAY else unknown
    return hour, index.weekday.to_numpy(np.int64) if step < WEEK else unknown
