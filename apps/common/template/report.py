"""The pictures of a classifier's report."""

from typing import Literal

import torch
from collegium import Routing, inspection, record
from matplotlib.figure import Figure
from torch import Tensor

from apps.common.report import Section
from apps.common.template.data import Data
from apps.common.template.task import Task


@torch.no_grad()
def sections(task: Task, data: Data, split: Literal["validation", "test"] = "validation") -> list[Section]:
    """Which class is taken for which, and which expert serves which class."""
    x, label = data.part(split)
    with record(task.network) as routings:
        predicted = task.network(x).argmax(-1)
    parts = [_confusion(label, predicted, data.classes)]
    if routings:
        parts.append(_experts({name: calls[0] for name, calls in routings.items()}, label, data.classes))
    return parts


def _confusion(label: Tensor, predicted: Tensor, classes: list[str]) -> Section:
    pairs = torch.stack([label, predicted])
    share = _shares(pairs, len(classes), len(classes))
    figure = Figure(figsize=(4, 3.2), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(share, vmin=0, vmax=1, cmap="Blues"))
    axes.set(xlabel="predicted", ylabel="class")
    axes.set_xticks(range(len(classes)), classes, rotation=60)
    axes.set_yticks(range(len(classes)), classes)
    return Section("Confusion", "Share of each class (row) that is taken for each class (column).", [figure])


def _experts(routings: dict[str, Routing], label: Tensor, classes: list[str]) -> Section:
    figure = Figure(figsize=(4 * len(routings), 3), layout="constrained")
    table = []
    grid = figure.subplots(1, len(routings), squeeze=False).flat
    for axes, (name, routing) in zip(grid, routings.items(), strict=True):
        pairs = torch.stack([label[routing.token], routing.expert])
        axes.imshow(_shares(pairs, len(classes), routing.num_experts), vmin=0, cmap="viridis", aspect="auto")
        axes.set(title=name, xlabel="expert")
        axes.set_yticks(range(len(classes)), classes)
        table.append({"layer": name, "tells class": round(inspection.mutual_information(routing, label), 3)})
    text = (
        "Share of each expert in the rows of a class. The table gives mutual information over the entropy of "
        "the class: 1 when the expert tells it, 0 when it says nothing."
    )
    return Section("Who serves what", text, [figure], table)


def _shares(pairs: Tensor, rows: int, columns: int) -> Tensor:
    """(rows, columns) counts of the pairs (2, N), each row divided by its sum."""
    table = torch.zeros(rows, columns).index_put_(tuple(pairs), torch.ones(pairs.shape[1]), accumulate=True)
    return table / table.sum(1, keepdim=True).clamp(min=1)
