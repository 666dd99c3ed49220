"""The metrics script: estimates of a run on held-out histograms, measured."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml

from apps.common.console import print_rows
from apps.common.files import write_text
from apps.common.report import Section, write_report
from apps.common.runs import Run, find_run, load_checkpoint
from apps.lidar import report
from apps.lidar.bound import Prior, bound
from apps.lidar.data import APP, Data, Light
from apps.lidar.estimates import Found, edges, estimates, outside, slices
from apps.lidar.metrics import excess_area, nrmse, rank_correlation, rmse
from apps.lidar.model import OUTPUTS
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import Detector
from apps.lidar.task import Task

UNITS = {"depth": "mm", "lifetime": "ns"}
BOUNDED = 300
"""Scenes from which the bound of each part of the photons is computed."""
TEXTS = {
    "Metrics": "`nrmse` is the root mean squared error over the range of training, with `_mean` over the "
    "mean of the truth; `mae` and `bias` are in mm and ns. In the last rows one parameter lies beyond its "
    "usual range.",
    "Physical limit": "The bound is the least root mean squared error that any estimator can have on scenes "
    "drawn like these, biased or not, with the light of diffusion theory; see `apps/lidar/bound.py`.",
    "Quality": "Rank correlation of quality and error: 1 where one tells the other's order. Excess area "
    "under risk by coverage: 0 where quality orders estimates as errors do, 1 where it tells nothing.",
}


def evaluate(
    run: Path | None = None,
    split: Literal["validation", "test"] = "validation",
    light: Light | None = None,
) -> None:
    """Measure the best checkpoint of a run; print tables, and write them as JSON and as an HTML report.

    Args:
        run: a folder runs/lidar/<config>/<n>; the newest by default.
        split: choose on validation; open the test histograms once, when all is chosen.
        light: other light than the run was trained on, diffusion or monte_carlo.
    """
    found = find_run(APP, run)
    task, data = load_run(found, light)
    whole = estimates(task.network, data.part(split))
    parts = [*slices(whole, data.ranges), *outside(task.network, data)]
    tables = {
        "Metrics": [measured(name, some, data.ranges) for name, some in parts],
        "Physical limit": beside_bound(whole, bounds(data), data.ranges),
        "Quality": [trusted(name, some) for name, some in parts],
    }
    if not np.isfinite(whole.quality).all():
        del tables["Quality"]
    told = f"{split} histograms, {data.light}"
    for title, rows in tables.items():
        print_rows(rows, f"{title}: {found.path}, {told}")
    out = found.path / "evaluation" / (light or "") / split
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "metrics.json", json.dumps({"split": split, "light": data.light, **tables}, indent=2))
    sections = [Section(title, TEXTS[title], table=rows) for title, rows in tables.items()]
    title = f"{APP}: {found.path.parent.name}, run {found.path.name}"
    write_report(out / "report.html", title, [*sections, *report.sections(task, data, split)], told)
    print(f"Report: {out / 'report.html'}")


def load_run(run: Run, light: Light | None = None) -> tuple[Task, Data]:
    """The task of the best checkpoint, in evaluation mode, and its data module, with other light if asked."""
    load_checkpoint(run.best, APP)
    options: dict[str, Any] = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))["data"]
    for name, kind in (("ranges", Ranges), ("detector", Detector)):
        if options.get(name) is not None:
            options[name] = kind(**options[name])
    data = Data(**{**options, **({} if light is None else {"light": light})})
    return Task.load_from_checkpoint(run.best, map_location="cpu").eval(), data


def measured(name: str, found: Found, ranges: Ranges) -> dict[str, Any]:
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


def bounds(data: Data, number: int = BOUNDED) -> dict[str, list[float]]:
    """The least mean squared error (mm^2, ns^2) of each output in each part of the photons.

    What is least for known tissue is no more for unknown tissue, so of this the greater one is told.
    """
    found: dict[str, list[float]] = {name: [] for name in OUTPUTS}
    ends = edges("photons", data.ranges)
    for part, (low, high) in enumerate(pairwise(ends)):
        inside = replace(data.ranges, photons=(float(low), float(high)))
        some = []
        for known in {True, data.known_tissue}:
            generator = torch.Generator().manual_seed(part)
            some.append(bound(Prior.draw(inside, number, known, generator), data.clock))
        for name, values in found.items():
            values.append(max(one[name] for one in some))
    return found


def beside_bound(found: Found, least: dict[str, list[float]], ranges: Ranges) -> list[dict[str, Any]]:
    """Errors of all, and by photons, beside their bounds (see `bounds`)."""
    ends, photons = edges("photons", ranges), found.scenes.photons.numpy()
    parts = {"all": (found, slice(None))}
    for part, (low, high) in enumerate(pairwise(ends)):
        inside = (photons >= low) & (photons <= high)
        parts |= (
            {f"{low:.3g}-{high:.3g}": (found.some(inside), slice(part, part + 1))} if inside.any() else {}
        )
    rows = []
    for name, (some, which) in parts.items():
        row: dict[str, Any] = {"photons": name}
        for place, (output, unit) in enumerate(UNITS.items()):
            error = rmse(some.value[:, place], some.truth[:, place])
            limit = float(np.mean(least[output][which])) ** 0.5
            row |= {f"{output}_{unit}": error, f"{output}_bound": limit, f"{output}_ratio": error / limit}
        rows.append(row)
    return rows


def trusted(name: str, found: Found) -> dict[str, Any]:
    """What the quality of some estimates tells of their errors: a row of the table."""
    row: dict[str, Any] = {"slice": name}
    for place, output in enumerate(OUTPUTS):
        error, quality = found.value[:, place] - found.truth[:, place], found.quality[:, place]
        row |= {
            f"{output}_quality": float(quality.mean()),
            f"{output}_rank": rank_correlation(quality, error),
            f"{output}_excess": excess_area(error, quality),
        }
    return row
