"""The metrics script: forecasts of a run on held-out windows, measured."""

import json
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import yaml
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from apps.common.console import print_rows
from apps.common.errors import UserError
from apps.common.files import write_text
from apps.common.report import Section, write_report
from apps.common.runs import Run, find_run, load_checkpoint
from apps.timeseries import report
from apps.timeseries.data import Data
from apps.timeseries.metrics import average, mae, mase, mse, smape
from apps.timeseries.pretraining import Pretraining
from apps.timeseries.task import Task
from apps.timeseries.windows import Batch, Windows, already_a_batch

APP = "timeseries"
BATCH = 512


def evaluate(
    run: Path | None = None,
    split: Literal["validation", "test"] = "validation",
    path: Path | None = None,
    horizon: int | None = None,
    out: Path | None = None,
    name: str | None = None,
) -> None:
    """Measure the best checkpoint of a run; print a table, and write it as JSON and as an HTML report.

    Args:
        run: a folder runs/timeseries/<config>/<n>; the newest by default.
        split: choose on validation; open the test windows once, when all is chosen.
        path: another file than the run was trained on, in the same format and split.
        horizon: steps to forecast; the run's by default.
        out: folder of the two files; by default evaluation/<split> in the run's folder, or for another set
            evaluation/<name>/<split>.
        name: a set of the catalogue that the run was not trained on, in its own split and on the scale of its
            own training rows.
    """
    found = find_run(APP, run)
    task, data = load_run(found, path=path, horizon=horizon, name=name)
    data.setup()
    rows = measure(task, data, split)
    told = f"{split} windows{f' of {name}' if name else ''}, horizon {data.horizon}"
    print_rows(rows, f"{found.path}, {told}")
    out = out or found.path / "evaluation" / (name or "") / split
    out.mkdir(parents=True, exist_ok=True)
    write_text(
        out / "metrics.json", json.dumps({"split": split, "horizon": data.horizon, "rows": rows}, indent=2)
    )
    table = Section("Metrics", "MSE, MAE and MASE on the scale of training, sMAPE in percent.", table=rows)
    title = f"{APP}: {found.path.parent.name}, run {found.path.name}"
    write_report(out / "report.html", title, [table, *report.sections(task, data, split)], told)
    print(f"Report: {out / 'report.html'}")


def load_run(
    run: Run, path: Path | None = None, horizon: int | None = None, name: str | None = None
) -> tuple[Task, Data]:
    """The task of the best checkpoint, in evaluation mode, and the data module it was trained with.

    With another path or name that module reads these instead.

    Raises UserError where both are given.
    """
    if path is not None and name is not None:
        raise UserError(f"both path {path} and name {name} were given: keep one of the two.")
    state = load_checkpoint(run.best, APP)["Data"]
    options: dict[str, Any] = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))["data"]
    other = name is not None and name != options["name"]
    if other:  # neither the file format nor the scale of training belongs to it
        options = {key: options[key] for key in ("context", "horizon", "batch_size", "validation_stride")}
        options["name"] = name
    if path is not None:
        options |= {"path": path, "name": None, "pretraining": None}
    if options.get("pretraining") is not None:
        options["pretraining"] = Pretraining(**options["pretraining"])
    if horizon is not None:
        options["horizon"] = horizon
    data = Data(**options)
    if not other:
        data.load_state_dict(state)
    return Task.load_from_checkpoint(run.best, map_location="cpu").eval(), data


def forecast(task: Task, windows: Windows, horizon: int | None = None) -> Tensor:
    """Forecasts (W, H) of all windows, on the scale of the data, with a progress bar.

    H is ``horizon``, or else that of the windows.
    """
    loader = DataLoader(windows, BATCH, collate_fn=already_a_batch)
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False)
    task.horizon = horizon
    parts = trainer.predict(task, loader)
    task.horizon = None
    return torch.cat([part for part in parts or [] if isinstance(part, Tensor)])


class Errors(NamedTuple):
    """Errors of each window (W,): mse, mae, mase on the scale of the data, smape in its units."""

    mse: Tensor
    mae: Tensor
    mase: Tensor
    smape: Tensor


def errors(forecast: Tensor, batch: Batch, data: Data, scale: Tensor, steps: slice) -> Errors:
    """Errors of forecasts (B, H) over some steps of the horizon, missing targets left out.

    scale: (C,) the seasonal naive error of each series, for MASE.
    """
    forecast, target = forecast[:, steps], batch["target"][:, steps]
    mask, channel = batch["target_mask"][:, steps], batch["channel"]
    units = data.restore(forecast, channel), data.restore(target, channel)
    return Errors(
        mse(forecast, target, mask),
        mae(forecast, target, mask),
        mase(forecast, target, scale[channel], mask),
        smape(*units, mask),
    )


def measure(task: Task, data: Data, split: Literal["validation", "test"]) -> list[dict[str, Any]]:
    """Rows of {slice, windows, mse, mae, mase, smape}.

    All steps of the longest horizon, and by quarter of it; the shorter horizons that training validated, each
    a forecast of its own; by series.
    """
    windows, scale = data.windows(split), data.naive_error()
    parts = {"all": slice(None), **_quarters(data.horizon)}
    found = _errors(task, windows, data, scale, parts)
    whole = found["all"]
    shorter = [horizon for horizon in task.validation_horizons if horizon < data.horizon]
    for horizon in shorter:
        name = f"horizon {horizon}"
        found |= _errors(task, windows, data, scale, {name: slice(horizon)}, horizon)
    rows = [_row(name, error) for name, error in found.items()]
    if len(data.names) > 1:
        for channel, name in enumerate(data.names):
            chosen = windows.channel == channel
            rows.append(_row(name, Errors(*(error[chosen] for error in whole))))
    return rows


def _errors(
    task: Task,
    windows: Windows,
    data: Data,
    scale: Tensor,
    parts: dict[str, slice],
    horizon: int | None = None,
) -> dict[str, Errors]:
    """Errors of all windows over each of some parts of the horizon; that of the windows by default."""
    found: dict[str, list[Errors]] = {name: [] for name in parts}
    guesses = torch.split(forecast(task, windows, horizon), BATCH)
    for batch, guess in zip(windows.batches(BATCH), guesses, strict=True):
        for name, steps in parts.items():
            found[name].append(errors(guess, batch, data, scale, steps))
    return {name: Errors(*map(torch.cat, zip(*batches, strict=True))) for name, batches in found.items()}


def _quarters(horizon: int) -> dict[str, slice]:
    """Name and steps of each quarter of a horizon; none of one that is too short."""
    size = -(-horizon // 4)
    starts = range(0, horizon, size) if horizon > 4 else ()
    return {f"steps {first + 1}-{min(first + size, horizon)}": slice(first, first + size) for first in starts}


def _row(name: str, error: Errors) -> dict[str, Any]:
    means = {metric: float(average(values)) for metric, values in error._asdict().items()}
    known = {metric: round(mean, 6) if isfinite(mean) else None for metric, mean in means.items()}
    return {"slice": name, "windows": len(error.mse), **known}
