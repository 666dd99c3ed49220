"""The M4 competition: a run's forecasts of what follows every series, beside the benchmarks of the field.

Shapes: S series, H horizon.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from apps.common.catalogue import fetch
from apps.common.console import print_rows
from apps.common.errors import UserError
from apps.common.files import write_text
from apps.common.runs import find_run, runs_root
from apps.timeseries.data import APP, Data
from apps.timeseries.evaluate import forecast, load_run
from apps.timeseries.metrics import average, mase, naive_error, smape
from apps.timeseries.naive2 import naive2
from apps.timeseries.tables import read_tables
from apps.timeseries.task import Task


class Protocol(NamedTuple):
    """Steps to forecast, and the season of MASE and of the benchmarks, in steps."""

    horizon: int
    season: int


PROTOCOLS = {"m4_hourly": Protocol(48, 24), "m4_weekly": Protocol(13, 1)}
"""Source: Makridakis et al. 2020, "The M4 Competition", section 2."""

BENCHMARKS = ("Naive2", "SeasonalNaive", "AutoTheta", "AutoETS")
"""Naive2, and models of statsforecast."""


def m4(run: Path | None = None, out: Path | None = None) -> None:
    """Forecast the test rows of the M4 set that a run was trained on, and print its errors beside others'.

    OWA is the mean of sMAPE and MASE over those of Naive2. The benchmarks' forecasts are kept below runs/, so
    that they are made once.

    Args:
        run: a folder runs/timeseries/m4_.../<n>; the newest run by default.
        out: JSON file to write; m4.json in the run's folder by default.
    """
    found = find_run(APP, run)
    task, data = load_run(found)
    if data.name not in PROTOCOLS:
        raise UserError(
            f"{found.path} was not trained on an M4 set: name another run with --run, or train one with "
            f"`make train APP={APP} CONFIG=m4_hourly` or CONFIG=m4_weekly."
        )
    protocol = PROTOCOLS[data.name]
    data.setup()
    train = [table.values[:, 0] for table in data.tables]
    target = targets(data.name, data.names)
    own = {found.path.parent.name: own_forecasts(task, data, protocol.horizon)}
    others = {kind: benchmark(kind, train, protocol) for kind in BENCHMARKS}
    rows = compared(own | others, train, target, protocol.season)
    print_rows(rows, f"{data.name}: {len(train)} series, {protocol.horizon} steps, by {found.path}")
    write_text(out or found.path / "m4.json", json.dumps({"data": data.name, "rows": rows}, indent=2))


def targets(name: str, series: Sequence[str]) -> Tensor:
    """The test rows (S, H) of these series of a set."""
    known = {
        table.names[0]: table.values[:, 0] for table in read_tables(fetch(APP, f"{name}_test"), by_row=True)
    }
    return torch.from_numpy(np.stack([known[each] for each in series]))


def own_forecasts(task: Task, data: Data, horizon: int) -> Tensor:
    """What the run expects after the last training row of every series, (S, H), in the units of the data."""
    latest = data.prediction_windows(data.tables)
    return latest.restore(forecast(task, latest.windows, horizon), latest.windows.channel)


def benchmark(kind: str, train: Sequence[np.ndarray], protocol: Protocol) -> Tensor:
    """Forecasts (S, H) of Naive2 or a model of statsforecast, each series by itself, with a progress bar.

    Those of statsforecast are kept below runs/, so that they are made once.

    Raises:
        UserError: statsforecast is not installed.
    """
    way: Callable[..., np.ndarray] = naive2
    if kind != "Naive2":
        try:
            import_module("statsforecast")
        except ModuleNotFoundError as error:
            raise UserError("the benchmarks of M4 need statsforecast: run `make peers` first.") from error
        kept = joblib.Memory(runs_root() / "cache" / "m4", verbose=0).cache(by_statsforecast)
        way = partial(kept, kind)
    return torch.from_numpy(
        np.stack([way(series, *protocol) for series in track(train, kind, transient=True)])
    )


def by_statsforecast(kind: str, series: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Forecast what follows a series (T,) by a model of statsforecast. Returns (H,)."""
    model = getattr(import_module("statsforecast.models"), kind)(season_length=season)
    return np.asarray(model.forecast(y=series, h=horizon)["mean"], dtype=np.float64)


def compared(
    forecasts: Mapping[str, Tensor], train: Sequence[np.ndarray], target: Tensor, season: int
) -> list[dict[str, Any]]:
    """Rows of {model, smape, mase, owa}, means over series of forecasts (S, H), Naive2 among them."""
    reference = errors(forecasts["Naive2"], train, target, season)
    rows = []
    for name, guess in forecasts.items():
        found = relative(errors(guess, train, target, season), reference)
        rows.append({"model": name, **{metric: float(average(error)) for metric, error in found.items()}})
    return rows


def errors(forecast: Tensor, train: Sequence[np.ndarray], target: Tensor, season: int) -> dict[str, Tensor]:
    """sMAPE and MASE of each series, (S,), for forecasts and targets (S, H)."""
    scale = torch.cat([naive_error(torch.tensor(series)[:, None], season) for series in train])
    return {"smape": smape(forecast, target), "mase": mase(forecast, target, scale)}


def relative(found: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Errors (S,) with each series' summand of the OWA: the mean of its errors over the reference's means."""
    parts = [found[metric] / average(reference[metric]) for metric in ("smape", "mase")]
    return {**found, "owa": torch.stack(parts).mean(0)}
