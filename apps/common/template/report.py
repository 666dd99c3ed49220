"""The pictures of a classifier's report."""

from typing import Literal

import torch
from collegium import Routing, inspection, record
from matplotlib.figure import Figure
from torch import Tensor

from apps.common.experts import tells
from apps.common.plots import ExpertMap, expert_maps, shares_by
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
    table = torch.zeros(len(classes), len(classes))
    table.index_put_((label, predicted), torch.ones(len(label)), accumulate=True)
    share = table / table.sum(1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=(4, 3.2), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(share, vmin=0, vmax=1, cmap="Blues"))
    axes.set(xlabel="predicted", ylabel="class")
    axes.set_xticks(range(len(classes)), classes, rotation=60)
    axes.set_yticks(range(len(classes)), classes)
    return Section("Confusion", "Share of each class (row) that is taken for each class (column).", [figure])


def _experts(routings: dict[str, Routing], label: Tensor, classes: list[str]) -> Section:
    panels = [
        ExpertMap(f"{name}: expert by class", "class", classes, shares_by(routing, label, len(classes)))
        for name, routing in routings.items()
    ]
    table = [
        {"layer": name, **tells("class", inspection.specialisation(routing, label))}
        for name, routing in routings.items()
    ]
    text = (
        "Share of each expert in the rows of a class, over an even share: red is more, blue is less. The "
        "table gives mutual information over the entropy of the class: 1 when the expert tells it, 0 when it "
        "says nothing; its 95% interval over rows; and what it would be by chance."
    )
    return Section("Who serves what", text, [expert_maps([[panel] for panel in panels])], table)
