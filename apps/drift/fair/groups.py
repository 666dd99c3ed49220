"""The groups between which a model is to be fair."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from apps.common.errors import UserError
from apps.drift.labels import Labels
from apps.drift.schema import as_text, is_missing

MOST = 20
"""A sensitive column has at most so many values: what has more tells no groups apart."""


class Groups(Labels):
    """Numbers for groups, as they come with the rows of a stream.

    Args:
        names: those known so far.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        super().__init__(MOST, names)

    def _full(self, name: str) -> UserError:
        return UserError(f"the group {name!r} is the {MOST + 1}th: name a column of few values in sensitive.")


def groups_of(frame: pd.DataFrame, sensitive: str, source: str) -> tuple[Tensor, list[str]]:
    """The group of each row (n,) int64, -1 where the cell is blank, and their names, numbered as they come.

    Raises:
        UserError: there is no such column, or it has one value or more than `MOST`.
    """
    if sensitive not in frame:
        known = ", ".join(map(str, frame.columns))
        raise UserError(f"{source} has no column {sensitive!r} to tell groups by: it has {known}.")
    cells = frame[sensitive].astype(object)
    codes, names = pd.factorize(cells.map(lambda cell: None if is_missing(cell) else as_text(cell)))
    if not 2 <= len(names) <= MOST:
        raise UserError(
            f"{source}: {sensitive} has {len(names)} values, and groups want 2 to {MOST}: name another "
            "column in --data.sensitive."
        )
    return torch.from_numpy(codes.astype("int64")), [str(name) for name in names]
