"""A log of impressions from a file: CSV, parquet, or RecBole's atomic files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from apps.common.errors import UserError
from apps.common.frames import read_frame

Kind = Literal["category", "number", "tags"]
ATOMIC: dict[str, Kind] = {"token": "category", "float": "number", "token_seq": "tags", "float_seq": "tags"}
"""What RecBole calls kinds of columns."""
BESIDE = (".user", ".item")
LIST = "\x1f"
"""What stands between the values of a list, once it is text."""


class Log(NamedTuple):
    """Rows of a log, and the kinds of columns that its file tells."""

    frame: pd.DataFrame
    kinds: dict[str, Kind]


def read_log(path: Path, users: Path | None = None, items: Path | None = None) -> Log:
    """Read a log, and join tables of users and items to it, by the column that both begin with.

    An atomic file `name.inter` brings `name.user` and `name.item`, where they lie beside it. A joined column
    that the log has too is left out.

    Raises UserError where a file cannot be read, a table has no column of the log or a key twice.
    """
    log = _read(path)
    tables = [table for table in (users, items) if table is not None]
    if path.suffix == ".inter" and not tables:
        tables = [beside for suffix in BESIDE if (beside := path.with_suffix(suffix)).is_file()]
    for table in tables:
        log = _joined(log, _read(table), path, table)
    return log


def _read(path: Path) -> Log:
    if path.suffix not in (".inter", *BESIDE):
        return without_lists(read_frame(path))
    if not path.is_file():
        raise UserError(f"{path}: there is no such file: check the path.")
    try:
        frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, na_values=[""])
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as an atomic file: it is a table with tabs.") from error
    if frame.empty:
        raise UserError(f"{path}: there are no rows: write a header and rows.")
    kinds: dict[str, Kind] = {}
    for column in frame.columns:
        name, _, kind = str(column).partition(":")
        if kind not in ATOMIC:
            raise UserError(
                f"{path}: the column {column!r} tells no kind: write {name}:token, or another of "
                f"{', '.join(ATOMIC)}."
            )
        if name in kinds:
            raise UserError(f"{path}: two columns are called {name}: give each a name of its own.")
        kinds[name] = ATOMIC[kind]
    frame.columns = pd.Index(kinds)
    for name, kind in kinds.items():
        if kind == "number":
            found = pd.to_numeric(frame[name], errors="coerce")
            odd = (found.isna() & frame[name].notna()).to_numpy()
            if odd.any():
                row = int(odd.argmax())
                raise UserError(
                    f"{path}: {name} is {frame[name].iloc[row]!r} in row {row + 1}, and should be a number: "
                    "mend the cell, or write token."
                )
            frame[name] = found
    return Log(frame, kinds)


def without_lists(frame: pd.DataFrame) -> Log:
    """Lists of a column, as parquet may have, as tags of one cell."""
    kinds: dict[str, Kind] = {}
    for name in frame.select_dtypes(object):
        known = frame[name].dropna()
        if len(known) and isinstance(known.iloc[0], list | tuple | np.ndarray):
            frame[name] = frame[name].map(lambda cell: LIST.join([*map(str, cell), ""]), na_action="ignore")
            kinds[str(name)] = "tags"
    return Log(frame, kinds)


def _joined(log: Log, table: Log, path: Path, beside: Path) -> Log:
    key = str(table.frame.columns[0])
    if key not in log.frame:
        raise UserError(
            f"{beside}: its first column is {key!r}, which {path} does not have: begin with the key."
        )
    if table.frame[key].duplicated().any():
        twice = table.frame[key][table.frame[key].duplicated()].iloc[0]
        raise UserError(f"{beside}: {key} {twice} has two rows: keep one.")
    new = [key, *(name for name in table.frame if name not in log.frame)]
    try:
        own = table.frame[new].astype({key: log.frame[key].dtype})
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{beside}: {key} holds text and numbers, and that of {path} is of one kind: write both alike."
        ) from error
    return Log(log.frame.merge(own, on=key, how="left"), {**table.kinds, **log.kinds})
