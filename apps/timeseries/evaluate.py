"""The metrics script: forecasts of a run on held-out windows, measured."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Trainer
from rich.progress import track
from torch import Tensor

from apps.common.errors import UserError
from apps.common.evaluation import Measured, show, write_evaluation
from apps.common.runs import Run, find_run
from apps.common.trained import data_of, task_of
from apps.timeseries import report
from apps.timeseries.data import APP, Data
from apps.timeseries.metrics import average, mae, mase, mse, smape
from apps.timeseries.model import Probabilistic
from apps.timeseries.quantiles import MEASURED, known_levels, quantiles, spread
from apps.timeseries.task import Task
from apps.timeseries.windows import Batch, Groups, Windows

BATCH = 512
POINTS = ("mse", "mae", "mase", "smape")


def evaluate(
    run: Path | None = None,
    split: Literal["validation", "test"] = "validation",
    path: Path | None = None,
    horizon: int | None = None,
    out: Path | None = None,
    name: str | None = None,
    date_column: str | None = None,
    id_column: str | None = None,
    value_column: str | None = None,
) -> None:
    """Measure the best checkpoint of a run; print a table, and write it as JSON and as an HTML report.

    Args:
        run: a folder runs/timeseries/<config>/<n>; the newest by default.
        split: choose on validation; open the test windows once, when all is chosen.
        path: another file than the run was trained on, in the same format and split.
        horizon: steps to forecast; the run's by default.
        out: folder of the two files; by default evaluation/<split> in the run's folder, or for another set or
            file evaluation/<its name>/<split>.
        name: a set of the catalogue that the run was not trained on, in its own split and on the scale of its
            own training rows.
        date_column: column of the dates in the file at `path`; as in training by default.
        id_column: column of the series' names there, in a long file; as in training by default.
        value_column: column of the values there, in a long file; as in training by default.
    """
    columns = {"date_column": date_column, "id_column": id_column, "value_column": value_column}
    columns = {key: column for key, column in columns.items() if column is not None}
    if columns and path is None:
        raise UserError(f"--{next(iter(columns))} tells how another file is read: give its --path too.")
    found = find_run(APP, run)
    task, data = load_run(found, path=path, horizon=horizon, name=name, columns=columns)
    data.setup()
    trained = int(found.options("data")["horizon"])
    if data.split == "last" and data.horizon > trained and (path, name) == (None, None):
        raise UserError(
            f"horizon {data.horizon}: {found.path} validates on the last {trained} rows and has learned from "
            f"those before them: ask for no more than {trained}."
        )
    rows = measure(task, data, split)
    other = name or (path.stem if path else "")
    told = f"{split} windows{f' of {other}' if other else ''}, horizon {data.horizon}"
    points, distributions = tables(rows)
    text = "MSE, MAE and MASE on the scale of training, sMAPE in percent."
    shown = [Measured("rows", "Metrics", text, points)]
    if distributions:
        text = (
            "CRPS, on the scale of training, is the absolute error of a whole distribution; msis_95, where "
            "the network knows such quantiles, is the scaled interval score of the central 95%; in_50 and "
            "in_90 are the shares of the targets in the central 50% and 90%."
        )
        shown.append(Measured("quantiles", "Quantiles", text, distributions))
    show(found, shown, told)
    pictures = report.sections(task, data, split)
    write_evaluation(found, split, shown, pictures, told, other=other, out=out, horizon=data.horizon)


def load_run(
    run: Run,
    path: Path | None = None,
    horizon: int | None = None,
    name: str | None = None,
    columns: Mapping[str, str | None] | None = None,
) -> tuple[Task, Data]:
    """The task of the best checkpoint, in evaluation mode, and the data module it was trained with.

    With another path or name that module reads these instead; `columns` are those of the path that are named
    otherwise than in training, by argument of the data module.

    Raises UserError where both are given.
    """
    if path is not None and name is not None:
        raise UserError(f"both path {path} and name {name} were given: keep one of the two.")
    task, state = task_of(run, Task)
    options: dict[str, Any] = run.options("data")
    other = name is not None and name != options["name"]
    if other:  # neither the file format nor the scale of training belongs to it
        kept = ("context", "horizon", "horizons", "batch_size", "validation_stride", "joint")
        options = {key: options[key] for key in kept if key in options}
        options["name"] = name
    if path is not None:
        options |= {"path": path, "name": None, "pretraining": None, **(columns or {})}
    if horizon is not None:
        options["horizon"] = horizon
        options["horizons"] = [some for some in options.get("horizons") or [] if some < horizon] + [horizon]
    data = data_of(run, Data, options)
    if not other:
        data.load_state_dict(state["Data"])
    return task, data


def forecast(task: Task, windows: Windows, horizon: int | None = None) -> Tensor:
    """Forecasts (W, H) of all windows, on the scale of the data, with a progress bar.

    H is ``horizon``, or else that of the windows.
    """
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False)
    task.horizon = horizon
    parts = trainer.predict(task, Groups(windows).loader(BATCH))
    task.horizon = None
    return torch.cat([part for part in parts or [] if isinstance(part, Tensor)])


def errors(
    forecast: Tensor, batch: Batch, data: Data, scale: Tensor, steps: slice = slice(None)
) -> dict[str, Tensor]:
    """Errors (B,) of forecasts (B, H) over some steps of the horizon, missing targets left out.

    mse, mae and mase on the scale of the data, smape in its units. scale: (C,) the seasonal naive error of
    each series, for MASE.
    """
    forecast, target = forecast[:, steps], batch["target"][:, steps]
    mask, channel = batch["target_mask"][:, steps], batch["channel"]
    units = data.restore(forecast, channel), data.restore(target, channel)
    return {
        "mse": mse(forecast, target, mask),
        "mae": mae(forecast, target, mask),
        "mase": mase(forecast, target, scale[channel], mask),
        "smape": smape(*units, mask),
    }


def measure(task: Task, data: Data, split: Literal["validation", "test"]) -> list[dict[str, Any]]:
    """Rows of {slice, windows, mse, mae, mase, smape}, and what `spread` gives of a probabilistic network.

    All steps of the longest horizon, and by quarter of it; the shorter horizons that training validated, each
    on all of its own windows; by series.
    """
    windows, scale = data.windows(split), data.naive_error()
    parts = {"all": slice(None), **_quarters(data.horizon)}
    found = _errors(task, windows, data, scale, parts)
    whole = found["all"]
    for horizon in (some for some in data.horizons if some < data.horizon):
        found |= _errors(task, windows.of_horizon(horizon), data, scale, {f"horizon {horizon}": slice(None)})
    rows = [_row(name, error) for name, error in found.items()]
    if len(data.names) > 1:
        for channel, name in enumerate(data.names):
            chosen = windows.channel == channel
            rows.append(_row(name, {metric: error[chosen] for metric, error in whole.items()}))
    return rows


def tables(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Part measured rows into those of points and those of quantiles, empty where there are none."""
    both = ("slice", "windows")
    points = [{key: row[key] for key in (*both, *POINTS)} for row in rows]
    others = [{key: value for key, value in row.items() if key not in POINTS} for row in rows]
    return points, others if len(others[0]) > len(both) else []


def _errors(
    task: Task,
    windows: Windows,
    data: Data,
    scale: Tensor,
    parts: dict[str, slice],
) -> dict[str, dict[str, Tensor]]:
    """Errors of all windows over each of some parts of the horizon."""
    found: dict[str, list[dict[str, Tensor]]] = {name: [] for name in parts}
    guesses, first = forecast(task, windows), 0
    known = known_levels(task.network) if isinstance(task.network, Probabilistic) else (0.0, 0.0)
    for batch in track(windows.batches(BATCH), "Measuring", -(-len(windows) // BATCH), transient=True):
        guess, at = guesses[first : first + len(batch["start"])], None
        first += len(guess)
        if isinstance(task.network, Probabilistic):
            at = quantiles(task.network, batch, guess.shape[1], MEASURED)
        for name, steps in parts.items():
            error = errors(guess, batch, data, scale, steps)
            found[name].append(error if at is None else error | spread(at, batch, scale, steps, known))
    return {
        name: {metric: torch.cat([batch[metric] for batch in batches]) for metric in batches[0]}
        for name, batches in found.items()
    }


def _quarters(horizon: int) -> dict[str, slice]:
    """Name and steps of each quarter of a horizon; none of one that is too short."""
    size = -(-horizon // 4)
    starts = range(0, horizon, size) if horizon > 4 else ()
    return {f"steps {first + 1}-{min(first + size, horizon)}": slice(first, first + size) for first in starts}


def _row(name: str, error: dict[str, Tensor]) -> dict[str, Any]:
    means = {metric: float(average(values)) for metric, values in error.items()}
    known = {metric: mean if isfinite(mean) else None for metric, mean in means.items()}
    return {"slice": name, "windows": len(error["mse"]), **known}
