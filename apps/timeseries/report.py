"""The pictures of a forecaster's report."""

from typing import Literal

import numpy as np
import torch
from collegium import record
from lightning.fabric.utilities import move_data_to_device
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from apps.common.plots import panels
from apps.common.report import Section
from apps.timeseries.baselines import repeat_last
from apps.timeseries.data import Data
from apps.timeseries.metrics import average, mae, mse
from apps.timeseries.model import Forecaster, Probabilistic
from apps.timeseries.quantiles import quantiles
from apps.timeseries.report_experts import expert_sections, one_a_series
from apps.timeseries.task import Task
from apps.timeseries.windows import Groups, Windows

SAMPLE = 1024
FAN = {"90%": (0.05, 0.95, "#f6d5d5"), "50%": (0.25, 0.75, "#e8a3a3")}
"""Bands of the forecast pictures, the widest first: the levels that bound them, and their colour."""


def sections(task: Task, data: Data, split: Literal["validation", "test"] = "validation") -> list[Section]:
    """Forecasts with their context, error by step of the horizon, and what the experts do."""
    windows = data.windows(split)
    rows = Groups(windows).sample(SAMPLE)
    batch = move_data_to_device(windows.__getitems__(rows), task.device)
    with torch.no_grad(), record(task.network) as routings:
        forecasts = task.eval().predict_step(batch).cpu()
    parts = [_examples(task.network, forecasts, rows, windows, data), _by_step(forecasts, rows, windows)]
    return [*parts, *expert_sections(task, routings, rows, windows, data)]


def _examples(network: Forecaster, forecasts: Tensor, rows: Tensor, windows: Windows, data: Data) -> Section:
    """A forecast of each of up to six series, from the middle of the split."""
    chosen = one_a_series(rows, windows, 6)
    figure, grid = panels(len(chosen), columns=2, width=4.5, height=2.2)
    for axes, i in zip(grid, chosen, strict=True):
        if isinstance(network, Probabilistic):
            _draw_fan(axes, network, int(rows[i]), windows, data)
        _draw_window(axes, forecasts[i], int(rows[i]), windows, data)
        axes.set_title(data.names[windows.channel[rows[i]]], fontsize=9)
    lines, names = grid[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=len(names), fontsize=8, frameon=False)
    text = (
        "Context, truth and forecast of one window a series, in the units of the data, over the steps after "
        "the last known value; of the context, as much as twice the forecast is shown."
    )
    if isinstance(network, Probabilistic):
        text += " The bands are to hold half and nine tenths of the truth."
    return Section("Forecasts", text, [figure])


def _draw_fan(axes: Axes, network: Probabilistic, row: int, windows: Windows, data: Data) -> None:
    batch, at = windows.groups_of(torch.tensor([row]))
    levels = sorted(level for *bounds, _ in FAN.values() for level in bounds)
    of_group = quantiles(network, batch, windows.horizon, levels)
    found = data.restore(of_group[at], batch["channel"][at])[0].numpy()
    steps = np.arange(1, len(found) + 1)
    for name, (*bounds, color) in FAN.items():
        low, high = (found[:, levels.index(level)] for level in bounds)
        axes.fill_between(steps, low, high, color=color, lw=0, label=name)


def _draw_window(axes: Axes, forecast: Tensor, row: int, windows: Windows, data: Data) -> None:
    batch = windows.__getitems__([row])
    steps = np.arange(1, len(forecast) + 1)
    shown = min(windows.context, 2 * len(forecast))

    def units(values: Tensor, mask: Tensor | None = None) -> np.ndarray:
        restored = data.restore(values[None], batch["channel"])[0]
        return (restored if mask is None else restored.where(mask, torch.nan)).numpy()

    past = units(batch["context"][0], batch["context_mask"][0])[-shown:]
    axes.plot(np.arange(1 - shown, 1), past, color="0.45", lw=1, label="context")
    axes.plot(steps, units(batch["target"][0], batch["target_mask"][0]), color="black", lw=1, label="truth")
    axes.plot(steps, units(forecast), color="tab:red", lw=1.3, label="forecast")
    axes.axvline(0.5, color="0.8", lw=0.8, zorder=0)
    step = f", each {data.frequency}" if data.frequency else ""
    axes.set_xlabel(f"steps after the last known{step}", fontsize=8)
    axes.tick_params(labelsize=8)


def _by_step(forecasts: Tensor, rows: Tensor, windows: Windows) -> Section:
    batch = windows.__getitems__(rows)
    target, mask = batch["target"], batch["target_mask"]
    last = repeat_last(batch["context"], batch["context_mask"], target.shape[1])
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    for axes, name, metric in zip(figure.subplots(1, 2), ("MSE", "MAE"), (mse, mae), strict=True):
        for guess, label, colour in ((forecasts, "model", "tab:red"), (last, "repeat last", "0.6")):
            axes.plot(
                range(1, target.shape[1] + 1), metric(guess.T, target.T, mask.T), color=colour, label=label
            )
        axes.set(xlabel="step of the horizon", title=name, ylim=(0, None))
    figure.axes[0].legend(fontsize=8)
    total = float(average(mse(forecasts, target, mask)))
    text = f"{len(rows)} windows, evenly spaced, on the scale of training; MSE of all steps {total:.4f}."
    return Section("Error by step", text, [figure])
