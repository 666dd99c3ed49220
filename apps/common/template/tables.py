"""What is taken of a user's table: numbers, and classes."""

import pandas as pd
import torch
from torch import Tensor

from apps.common.errors import UserError


def read_labels(table: pd.DataFrame, column: str, source: str) -> tuple[list[str], Tensor]:
    """Return the names of the classes, sorted, and the class of each row (N,) as an index into them."""
    if column not in table:
        raise UserError(f"{source} has no column {column!r}: name the one with the classes by --data.label.")
    if table[column].isna().any():
        raise UserError(f"{source}: {column} has blank cells: fill them or remove those rows.")
    names = table[column].astype(str)
    classes = sorted(names.unique())
    return classes, torch.tensor(names.map(classes.index).to_numpy())


def read_numbers(table: pd.DataFrame, columns: list[str], source: str) -> Tensor:
    """Return columns of numbers as (N, F) float32. Raises UserError naming the first cell that is none."""
    for column in columns:
        if column not in table:
            raise UserError(f"{source} has no column {column!r}: the model was trained with it, add it.")
        bad = pd.to_numeric(table[column], errors="coerce").isna()
        if bad.any():
            row = int(bad.to_numpy().argmax()) + 1
            raise UserError(f"{source}: {column} holds no number in row {row}: mend or remove that row.")
    return torch.tensor(table[columns].to_numpy(dtype="float32"))
