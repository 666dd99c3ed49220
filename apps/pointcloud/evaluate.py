"""The metrics script: whole held-out scans labelled by a run, measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from collegium import Routing, inspection, record
from torch import Tensor

from apps.common.evaluation import Measured, show, write_evaluation
from apps.common.runs import Run, find_run
from apps.common.trained import data_of, task_of
from apps.pointcloud import report
from apps.pointcloud.data import APP, Data, Tiles
from apps.pointcloud.levels import Level
from apps.pointcloud.metrics import iou, recall
from apps.pointcloud.model import PointMoE
from apps.pointcloud.task import Task
from apps.pointcloud.told import asked, by_class, counts_of, measured, shared_counts

TEXTS = {
    "rows": "`miou` is the mean of intersection over union over the classes that have points, `accuracy` the "
    "share of points whose class is told; `all` is the mean over domains. A cell is labelled by the mean of "
    "the tiles that see it, a point as its cell.",
    "classes": "Intersection over union of each class in each domain that has points of it.",
    "right": "Share of the points of each class whose class is told.",
    "shared": "Intersection over union of what classes of several domains mean; what is said to be of no "
    "such class is wrong.",
    "experts": "Mutual information of expert and domain, and of expert and class, over the entropy of these: "
    "0 where an expert tells nothing, 1 where it tells which it is. By layer, the first one first.",
}


def evaluate(
    run: Path | None = None,
    split: Literal["validation", "test"] = "validation",
    sheet: Path | None = None,
    out: Path | None = None,
) -> None:
    """Measure the best checkpoint of a run; print tables, and write them as JSON and as an HTML report.

    Args:
        run: a folder runs/pointcloud/<config>/<n>; the newest by default.
        split: choose on validation; open the test scans once, when all is chosen.
        sheet: other domains than those of the run, with the same classes; of each its own may be told.
        out: folder of the two files; by default evaluation/<split> in the run's folder, or for another sheet
            evaluation/<its name>/<split>.
    """
    found = find_run(APP, run)
    task, data = load_run(
        found, **({} if sheet is None else {"sheet": str(sheet), "domains": None, "shares": None})
    )
    network = task.network
    told = asked(network, data, split)
    counts, shared = counts_of(told, data.sheet), shared_counts(told, data.sheet)
    tables = [
        Measured("rows", "Metrics", TEXTS["rows"], measured(counts)),
        Measured("classes", "IoU by class", TEXTS["classes"], by_class(counts, data.sheet.classes, iou)),
        Measured("right", "Accuracy by class", TEXTS["right"], by_class(counts, data.sheet.classes, recall)),
    ]
    if data.sheet.meanings:
        rows = by_class(shared, data.sheet.meanings, iou)
        tables.append(Measured("shared", "IoU by what classes mean", TEXTS["shared"], rows))
    if experts := knowledge(network, data, split):
        tables.append(Measured("experts", "What experts tell", TEXTS["experts"], experts))
    show(found, tables, f"{split} scans")
    print(f"{told.points / told.seconds:,.0f} points a second of CPU\n")
    pictures = report.sections(task, data, split, told)
    other = sheet.stem if sheet else ""
    write_evaluation(found, split, tables, pictures, f"{split} scans", other=other, out=out)


def load_run(run: Run, **changes: Any) -> tuple[Task, Data]:
    """The task of the best checkpoint, in evaluation mode, and its data module, some options changed."""
    task, checkpoint = task_of(run, Task)
    data = data_of(run, Data, run.options("data") | changes)
    data.sheet = data.sheet.among(checkpoint["Data"]["classes"])
    if task.network.told_domain:
        data.check_domains(checkpoint["Data"]["domains"])
    return task, data


@torch.no_grad()
def knowledge(network: PointMoE, data: Data, split: Literal["validation", "test"]) -> list[dict[str, Any]]:
    """What the experts of each layer tell of domain and class: a row a layer."""
    batch = Tiles(data.part(split), data.classes, data.points).some(report.LOOKED_AT)
    with record(network) as routings:
        network(batch.points)
    level, label = Level(batch.points.cell, batch.points.cloud, network.patch), batch.label
    domain = {}
    for _ in network.dims:
        domain[len(level.cell)] = batch.points.domain[level.cloud]
        level, _ = level.coarser()
    table: list[dict[str, Any]] = []
    for name, (routing, *_) in routings.items():
        row = {"layer": name, "domain": inspection.mutual_information(routing, domain[routing.num_tokens])}
        if routing.num_tokens == len(label):
            row["class"] = inspection.mutual_information(of_known(routing, label >= 0), label[label >= 0])
        table.append(row)
    return table


def of_known(routing: Routing, known: Tensor) -> Routing:
    """The routing of those of its tokens (T,) that are known, numbered anew."""
    own = known[routing.token]
    return replace(
        routing,
        token=(known.cumsum(0) - 1)[routing.token[own]],
        expert=routing.expert[own],
        weight=routing.weight[own],
        num_tokens=int(known.sum()),
    )
