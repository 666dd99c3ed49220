"""Forecast every series of a user's own file from a checkpoint, without the data it was trained on."""

from pathlib import Path

import pandas as pd
from torch import Tensor

from apps.common.errors import UserError
from apps.common.files import replacing
from apps.common.runs import find_run, load_checkpoint
from apps.timeseries.data import Data
from apps.timeseries.evaluate import APP, forecast
from apps.timeseries.latest import Latest
from apps.timeseries.tables import Table, read_tables
from apps.timeseries.task import Task


def predict(
    input: Path,
    out: Path = Path("forecasts.csv"),
    horizon: int | None = None,
    run: Path | None = None,
    date_column: str | None = None,
    columns: list[str] | None = None,
    id_column: str | None = None,
    value_column: str | None = None,
    frequency: str | None = None,
    header: bool = True,
) -> None:
    """Forecast what follows the last row of every series of a CSV or parquet file.

    Args:
        input: wide (a column a series) or long (a row a value) file; its series may be new ones.
        out: CSV to write: a column a series for a wide file, a row a value for a long one.
        horizon: steps to forecast; the run's by default.
        run: a folder runs/timeseries/<config>/<n>; the newest by default.
        date_column, columns, id_column, value_column, frequency, header: the format, as in training.
    """
    if out.suffix != ".csv":
        raise UserError(f"{out}: forecasts are written as CSV, so give a name that ends in .csv.")
    if horizon is not None and horizon < 1:
        raise UserError(f"horizon is {horizon}: forecast at least 1 step.")
    checkpoint = find_run(APP, run).best
    data = Data.from_state(load_checkpoint(checkpoint, APP)["Data"])
    tables = read_tables(
        input,
        date_column=date_column,
        columns=columns,
        id_column=id_column,
        value_column=value_column,
        frequency=frequency,
        header=header,
    )
    task = Task.load_from_checkpoint(checkpoint, map_location="cpu")
    task.horizon = horizon or data.horizon
    latest = data.prediction_windows(tables)
    values = latest.restore(forecast(task, latest.windows), latest.windows.channel)
    if id_column is not None and value_column is not None:
        frame = _long(values, latest, date_column, id_column, value_column)
    else:
        frame = _wide(values, latest, date_column)
    with replacing(out) as temporary:
        frame.to_csv(temporary, index=False)
    print(f"{len(values)} series, {task.horizon} steps each: {out}")


def _wide(values: Tensor, latest: Latest, date: str | None) -> pd.DataFrame:
    (table,) = latest.tables
    frame = pd.DataFrame(values.T.numpy(), columns=list(table.names))
    frame.insert(0, _axis_name(table, date), table.future(values.shape[1]))
    return frame


def _long(values: Tensor, latest: Latest, date: str | None, key: str, value: str) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                key: table.names[0],
                _axis_name(table, date): table.future(values.shape[1]),
                value: series.numpy(),
            }
        )
        for table, series in zip(latest.tables, values, strict=True)
    ]
    return pd.concat(parts)


def _axis_name(table: Table, date: str | None) -> str:
    """The name of the date column: as given, or "date"; "step" for rows without dates."""
    if not isinstance(table.index, pd.DatetimeIndex):
        return "step"
    return date or "date"
