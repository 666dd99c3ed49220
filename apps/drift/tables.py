"""What is taken of a table: which rows, and of a column the labels."""

import pandas as pd

from apps.common.errors import UserError
from apps.drift.schema import as_number, is_missing


def rows_where(frame: pd.DataFrame, where: str, source: str) -> pd.DataFrame:
    """The rows for which a condition holds. Raises `UserError` where it is none, or holds for none."""
    told = f"{source}: data.where is {where!r}, which"
    try:
        holds = frame.eval(where)
    except (AttributeError, KeyError, NameError, SyntaxError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{told} cannot be asked of its rows ({reason}): mend it.") from error
    if not isinstance(holds, pd.Series) or holds.dtype != bool:
        raise UserError(f"{told} is no condition: compare a column with a value.")
    if not holds.any():
        raise UserError(f"{told} holds for no row: mend it.")
    return frame[holds]


def label_column(frame: pd.DataFrame, target: str, above: float | None, source: str) -> pd.Series:
    """The labels of a frame. Raises `UserError` where there is none, or no number to compare with `above`."""
    labels = frame[target].astype(object)
    if above is not None:
        odd = [cell for cell in labels if not is_missing(cell) and as_number(cell) != as_number(cell)]
        if odd:
            raise UserError(
                f"{source}: {target} holds {odd[0]!r}, which is no number: leave out --data.above."
            )
        labels = labels.map(lambda cell: None if is_missing(cell) else as_number(cell) > above)
    if labels.map(is_missing).all():
        raise UserError(f"{source}: {target} is blank in every row: name the column with the labels.")
    return labels
