"""The metrics script: estimates of a run on held-out histograms, measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apps.common.evaluation import Measured, show, write_evaluation
from apps.common.runs import Run, find_run
from apps.common.trained import data_of, task_of
from apps.lidar import report
from apps.lidar.data import APP, Data
from apps.lidar.estimates import Found, estimates, outside, slices
from apps.lidar.limits import Limits, bounds
from apps.lidar.metrics import excess_area, nrmse, rank_correlation, rmse
from apps.lidar.model import OUTPUTS, EvidenceMoE
from apps.lidar.rig import Light
from apps.lidar.scenes import Ranges
from apps.lidar.task import Task

UNITS = {"depth": "mm", "lifetime": "ns"}
TEXTS = {
    "rows": "`nrmse` is the root mean squared error over the range of training, with `_mean` over the "
    "mean of the truth; `mae` and `bias` are in mm and ns. In the last rows one parameter lies beyond its "
    "usual range.",
    "limit": "The bound is the least root mean squared error that any estimator can have on scenes "
    "drawn like these, biased or not, with the light of diffusion theory; see `apps/lidar/bound.py`.",
    "quality": "Rank correlation of quality and error: 1 where one tells the other's order. Excess area "
    "under risk by coverage: 0 where quality orders estimates as errors do, 1 where it tells nothing. Told "
    "is the root mean square of the expected errors over that of the errors: 1 where they are right on the "
    "whole, less where an estimate is too sure of itself.",
}


def evaluate(
    run: Path | None = None,
    split: Literal["validation", "test"] = "validation",
    light: Light | None = None,
    out: Path | None = None,
) -> None:
    """Measure the best checkpoint of a run; print tables, and write them as JSON and as an HTML report.

    Args:
        run: a folder runs/lidar/<config>/<n>; the newest by default.
        split: choose on validation; open the test histograms once, when all is chosen.
        light: other light than the run was trained on, diffusion or monte_carlo.
        out: folder of the two files; by default evaluation/<split> in the run's folder, or for another light
            evaluation/<light>/<split>.
    """
    found = find_run(APP, run)
    task, data = load_run(found, light)
    whole = estimates(task.network, data.part(split))
    parts = [*slices(whole, data.ranges), *outside(task.network, data)]
    limits = bounds(data.ranges, data.rig, data.known_tissue)
    rows = [measure(name, some, data.ranges) for name, some in parts]
    tables = [
        Measured("rows", "Metrics", TEXTS["rows"], rows),
        Measured("limit", "Physical limit", TEXTS["limit"], beside_bound(parts, limits)),
    ]
    if np.isfinite(whole.quality).all():
        quality = [trusted(name, some) for name, some in parts]
        tables.append(Measured("quality", "Quality", TEXTS["quality"], quality))
    told = f"{split} histograms, {data.light}"
    show(found, [part for table in tables for part in by_output(table)], told)
    pictures = report.sections(task, data, split)
    write_evaluation(found, split, tables, pictures, told, other=light or "", out=out, light=data.light)


def load_run(run: Run, light: Light | None = None) -> tuple[Task, Data]:
    """The task of the best checkpoint, in evaluation mode, and its data module, with other light if asked.

    Prints what one should know of that checkpoint.
    """
    task, checkpoint = task_of(run, Task)
    state = checkpoint["Data"]  # with a measured response, whose file may be gone, and its clock
    changes: dict[str, Any] = {"irf": None, "flash": state["clock"]["flash"]}
    data = data_of(run, Data, run.options("data") | changes | ({} if light is None else {"light": light}))
    data.load_state_dict(state)
    if isinstance(task.network, EvidenceMoE) and checkpoint.get("stage") in ("experts", "critics"):
        print("note: the best state of this run is of before its mixture was trained: train it longer.")
    return task, data


def by_output(table: Measured) -> list[Measured]:
    """A table in parts, the last of which brings the text."""
    parts = [
        Measured(table.name, f"{table.title}, {output}", "", of_output(table.rows, output))
        for output in OUTPUTS
    ]
    return [*parts[:-1], parts[-1]._replace(text=table.text)]


def of_output(rows: list[dict[str, Any]], output: str) -> list[dict[str, Any]]:
    """Of a table what concerns one output, under shorter names, as a terminal is narrow."""
    others = [name for name in OUTPUTS if name != output]
    return [
        {
            name.removeprefix(f"{output}_").replace(f"_{output}", ""): cell
            for name, cell in row.items()
            if not any(other in name for other in others)
        }
        for row in rows
    ]


def measure(name: str, found: Found, ranges: Ranges) -> dict[str, Any]:
    """Errors of some estimates: a row of the metrics."""
    row: dict[str, Any] = {"slice": name, "histograms": len(found.value)}
    for place, output in enumerate(OUTPUTS):
        value, truth = found.value[:, place], found.truth[:, place]
        low, high = getattr(ranges, output)
        row |= {
            f"nrmse_{output}": nrmse(value, truth, high - low),
            f"nrmse_{output}_mean": nrmse(value, truth, float(truth.mean())),
            f"mae_{output}": float(np.abs(value - truth).mean()),
            f"bias_{output}": float((value - truth).mean()),
        }
    return row


def beside_bound(parts: Iterable[tuple[str, Found]], limits: Limits) -> list[dict[str, Any]]:
    """Errors of all and of parts, beside their limits where these are known."""
    rows = []
    for name, some in parts:
        if name not in limits:
            continue
        row: dict[str, Any] = {"slice": name}
        for place, (output, unit) in enumerate(UNITS.items()):
            error, limit = rmse(some.value[:, place], some.truth[:, place]), limits[name][output] ** 0.5
            row |= {
                f"{output}_{unit}": error,
                f"{output}_bound": limit,
                f"ratio_to_bound_{output}": error / limit,
            }
        rows.append(row)
    return rows


def trusted(name: str, found: Found) -> dict[str, Any]:
    """What the quality of some estimates tells of their errors: a row of the table."""
    row: dict[str, Any] = {"slice": name}
    for place, output in enumerate(OUTPUTS):
        error, quality = found.value[:, place] - found.truth[:, place], found.quality[:, place]
        row |= {
            f"{output}_quality": float(quality.mean()),
            f"rank_{output}": rank_correlation(quality, error),
            f"{output}_excess": excess_area(error, quality),
            f"{output}_told": float(np.sqrt(np.mean(found.expected[:, place] ** 2) / np.mean(error**2))),
        }
    return row
