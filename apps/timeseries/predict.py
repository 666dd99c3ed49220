"""Forecast every series of a user's own file from a checkpoint, without the data it was trained on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from apps.common.errors import UserError
from apps.common.files import check_out, replacing
from apps.common.frames import read_frame
from apps.common.runs import find_run
from apps.common.trained import task_of
from apps.timeseries.data import APP, Data
from apps.timeseries.evaluate import forecast
from apps.timeseries.latest import Latest
from apps.timeseries.model import Probabilistic
from apps.timeseries.quantiles import all_quantiles, levels_for
from apps.timeseries.tables import Table, tables_from, usual_format
from apps.timeseries.task import Task


def predict(
    input: Path,
    out: Path = Path("predictions.csv"),
    run: Path | None = None,
    horizon: int | None = None,
    date_column: str | None = None,
    columns: list[str] | None = None,
    id_column: str | None = None,
    value_column: str | None = None,
    frequency: str | None = None,
    header: bool | None = None,
    by_row: bool | None = None,
    levels: list[float] | None = None,
) -> None:
    """Forecast what follows the last row of every series of a CSV or parquet file.

    Where the file has the columns that the run was trained with, they need not be named again.

    Args:
        input: wide (a column a series) or long (a row a value) file, or one of a row a series; its series may
            be new ones.
        out: CSV to write: a column a series for a wide file, a row a value for the others.
        run: a folder runs/timeseries/<config>/<n>; the newest by default.
        horizon: steps to forecast; the run's by default.
        date_column: column of the dates; the run's, or one of the usual names, by default; "none" for rows
            without dates.
        columns: series to forecast; all by default.
        id_column: column of the series' names, in a long file; the run's by default.
        value_column: column of the values, in a long file; the run's by default.
        frequency: step of the dates as a pandas offset such as h; inferred by default.
        header: whether the first row holds the names of the columns; as in training by default.
        by_row: whether each row is a series, its name and then its values; as in training by default.
        levels: of the quantiles that are written beside each forecast, in columns named like sales_q10. For a
            run whose network knows them: 0.1 0.5 0.9 by default.
    """
    check_out(out, input)
    if horizon is not None and horizon < 1:
        raise UserError(f"--horizon is {horizon}: forecast at least 1 step.")
    found = find_run(APP, run)
    task, loaded = task_of(found, Task)
    data = Data.from_state(loaded["Data"])
    frame = read_frame(input, data.format["header"] if header is None else header)
    given = {"date_column": date_column, "id_column": id_column, "value_column": value_column}
    names = {key: name for key, name in given.items() if name is not None}
    by_row = data.format.get("by_row", False) if by_row is None else by_row
    if by_row:
        frequency = frequency or data.format["frequency"]
    else:
        names = usual_format(frame, data.format) | names
    tables = tables_from(frame, input, by_row, columns=columns, frequency=frequency, **names)
    levels = levels_for(task.network, levels)
    latest = data.prediction_windows(tables)
    values = _values(task, latest, horizon or data.horizon, levels)
    date, key, value = (names.get(column) for column in ("date_column", "id_column", "value_column"))
    if by_row:
        key, value = "series", "value"
    if key and value:
        written = _long(values, latest, date, key, _columns(value, levels))
    else:
        written = _wide(values, latest, date, levels)
    twice = written.columns[written.columns.duplicated()]
    if len(twice):
        raise UserError(f"{input}: two columns of the forecasts would be '{twice[0]}': rename that series.")
    with replacing(out) as temporary:
        written.to_csv(temporary, index=False)
    for note in _notes(tables, data):
        print(f"note: {note}.")
    steps = f"{loaded['global_step']:,} training steps"
    print(f"{len(values)} series, {values.shape[1]} steps each, by {found.path} ({steps}): {out}")


def _notes(tables: Sequence[Table], data: Data) -> Iterator[str]:
    """What is to be known of forecasts that have little to go by."""
    names = [name for table in tables for name in table.names]
    short = sum(len(table.names) for table in tables if len(table.values) < data.context)
    if short:
        yield f"{short} of {len(names)} series are shorter than the {data.context} rows that are read"
    if new := len(set(names) - set(data.names)):
        yield f"{new} of {len(names)} series were not in training, where nothing was measured on them"


def _values(task: Task, latest: Latest, horizon: int, levels: list[float]) -> Tensor:
    """Forecasts and behind them their quantiles, (C, H, 1 + Q), in the units of the file."""
    parts = [forecast(task, latest.windows, horizon).unsqueeze(-1)]
    if isinstance(task.network, Probabilistic):
        parts.append(all_quantiles(task.network, latest.windows, horizon, levels))
    return latest.restore(torch.cat(parts, -1), latest.windows.channel)


def _columns(name: str, levels: list[float]) -> list[str]:
    """Names of a forecast and of its quantiles.

    >>> _columns("sales", [0.025, 0.9])
    ['sales', 'sales_q2.5', 'sales_q90']
    """
    return [name, *(f"{name}_q{100 * level:g}" for level in levels)]


def _wide(values: Tensor, latest: Latest, date: str | None, levels: list[float]) -> pd.DataFrame:
    (table,) = latest.tables
    columns = [column for name in table.names for column in _columns(name, levels)]
    frame = pd.DataFrame(values.transpose(0, 1).flatten(1).numpy(), columns=columns)
    frame.insert(0, _axis_name(table, date), table.future(values.shape[1]), allow_duplicates=True)
    return frame


def _long(values: Tensor, latest: Latest, date: str | None, key: str, columns: list[str]) -> pd.DataFrame:
    parts = []
    for table, series in zip(latest.tables, values, strict=True):
        frame = pd.DataFrame(series.numpy(), columns=columns)
        frame.insert(0, _axis_name(table, date), table.future(len(series)), allow_duplicates=True)
        frame.insert(0, key, table.names[0], allow_duplicates=True)
        parts.append(frame)
    return pd.concat(parts)


def _axis_name(table: Table, date: str | None) -> str:
    """The name of the date column: as given, or "date"; "step" for rows without dates."""
    if not isinstance(table.index, pd.DatetimeIndex):
        return "step"
    return date or "date"
