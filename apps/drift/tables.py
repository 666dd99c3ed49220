"""What is taken of a table: which rows, and of a column the labels."""

import math
from typing import Any

import pandas as pd

from apps.common.errors import UserError
from apps.drift.schema import as_number, is_missing

UNFIT = (AttributeError, TypeError, ValueError)
"""What pandas raises beside, where a condition asks for what cannot be done with the columns."""


def rows_where(frame: pd.DataFrame, where: str, source: str) -> pd.DataFrame:
    """The rows for which a condition holds. Raises `UserError` where it is none, or holds for none."""
    told = f"{source}: data.where is {where!r}, which"
    try:
        holds = frame.eval(where)
    except (LookupError, NameError, NotImplementedError, SyntaxError, *UNFIT) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{told} cannot be asked of its rows ({reason}): mend it.") from error
    if not isinstance(holds, pd.Series) or holds.dtype != bool:
        raise UserError(f"{told} is no condition: compare a column with a value.")
    if not holds.any():
        raise UserError(f"{told} holds for no row: mend it.")
    return frame[holds]


def as_label(cell: Any, above: float | None) -> Any:
    """A cell as a label: whether it lies above a number, where there is one; None where it is missing.

    Raises ValueError where it is no number then.
    """
    if is_missing(cell):
        return None
    if above is None:
        return cell
    if math.isnan(number := as_number(cell)):
        raise ValueError(f"{cell!r}, which is no number")
    return number > above


def label_column(frame: pd.DataFrame, target: str, above: float | None, source: str) -> pd.Series:
    """The labels of a frame. Raises `UserError` where there is none, or no number to compare with `above`."""
    try:
        labels = frame[target].astype(object).map(lambda cell: as_label(cell, above))
    except ValueError as error:
        raise UserError(f"{source}: {target} holds {error}: leave out --data.above.") from error
    if labels.map(is_missing).all():
        raise UserError(f"{source}: {target} is blank in every row: name the column with the labels.")
    return labels
