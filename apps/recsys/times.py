"""Moments of a log: numbers or dates, never letters in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from apps.common.errors import UserError


def moments(column: pd.Series[Any], source: str) -> np.ndarray:
    """(N,) when each row was: float64, or int64 nanoseconds of dates.

    Raises UserError for a cell that is blank, or neither a number nor a date as in 2024-05-31 18:00.
    """
    name, blank = str(column.name), column.isna().to_numpy()
    if blank.any():
        raise UserError(
            f"{source}: {name} is blank in row {_row(column, blank)}: fill it, or use --data.split random."
        )
    if pd.api.types.is_datetime64_any_dtype(column):
        return _nanoseconds(column)
    numbers = pd.to_numeric(column, errors="coerce")
    if not numbers.isna().any():
        return numbers.to_numpy(dtype=np.float64)
    dates = _dates(column)
    odd = (dates.isna() if dates.notna().sum() > numbers.notna().sum() else numbers.isna()).to_numpy()
    if odd.any():
        raise UserError(
            f"{source}: {name} is {column.iloc[int(odd.argmax())]!r} in row {_row(column, odd)}: write all "
            "times as numbers, or as dates like 2024-05-31 18:00."
        )
    return _nanoseconds(dates)


def moment(value: Any, like: np.ndarray, source: str) -> float:
    """A moment that was given by itself, on the scale of others. Raises UserError where it is none."""
    try:
        if np.issubdtype(like.dtype, np.integer):
            return float(pd.Timestamp(str(value), tz="UTC").value)
        return float(value)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{source}: data.cut has {value!r}, which is no time like those of the log."
        ) from error


def _dates(column: pd.Series[Any]) -> pd.Series[Any]:
    return pd.to_datetime(column.astype("string"), errors="coerce", format="ISO8601", utc=True)


def _nanoseconds(dates: pd.Series[Any]) -> np.ndarray:
    return (
        dates.astype("datetime64[ns, UTC]" if dates.dt.tz is not None else "datetime64[ns]")
        .astype("int64")
        .to_numpy()
    )


def _row(column: pd.Series[Any], odd: np.ndarray) -> int:
    return int(column.index[int(odd.argmax())]) + 1
