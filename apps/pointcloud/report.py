"""The pictures of a report: scans beside what is said of them, who errs, and where experts serve."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from collegium import Routing, record
from collegium.layer import moe_layers
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from apps.common.plots import COLORS, ExpertMap, expert_maps, panels, shares_by
from apps.common.report import Section
from apps.pointcloud.colours import colours
from apps.pointcloud.data import Data, Tiles
from apps.pointcloud.features import Scan
from apps.pointcloud.metrics import confusion
from apps.pointcloud.model import PointMoE
from apps.pointcloud.task import Task
from apps.pointcloud.told import Told, asked
from apps.pointcloud.view import picture

MOST = 60_000
"""Points of a picture."""
RIGHT, WRONG = (170, 200, 175), (214, 40, 40)
LOOKED_AT = 6
"""Tiles of each domain on which experts are looked at."""


def sections(
    task: Task, data: Data, split: Literal["validation", "test"] = "validation", told: Told | None = None
) -> list[Section]:
    """Truth, prediction, error and experts of a scan of each domain; confusion; whom experts serve.

    Args:
        task: of the run.
        data: its scans.
        split: those of this part.
        told: what is said of them, where that is known.
    """
    network = task.network
    told = told or asked(network, data, split)
    routed = bool(moe_layers(network))
    found = [_views(network, data, told), _confusion(data, told)]
    return [*found, _experts(network, data, told.scans)] if routed else found


def _views(network: PointMoE, data: Data, told: Told) -> Section:
    names, routed = [domain.name for domain in data.sheet.domains], bool(moe_layers(network))
    shown = [next(i for i, s in enumerate(told.scans) if s.domain == d) for d in _there(told)]
    palette = colours(data.sheet.classes)
    figure = Figure(figsize=(13, 3.2 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 4 if routed else 3, squeeze=False)
    for row, number in zip(grid, shown, strict=True):
        scan, label = told.scans[number], told.labels[number]
        rows = np.random.default_rng(0).permutation(len(scan.truth))[:MOST]
        truth, said = scan.truth[rows], label[rows]
        wrong = np.where((said == truth)[:, None], RIGHT, WRONG)
        wrong[truth < 0] = palette[-1]
        images = {"truth": palette[truth], "told": palette[said], "wrong": wrong}
        if routed:
            chosen = first_experts(network, data, scan)[scan.of_point[rows]]
            images["expert"] = np.array([to_rgb(colour) for colour in COLORS])[chosen % len(COLORS)] * 255
        for axes, (title, colour) in zip(row, images.items(), strict=True):
            axes.imshow(picture(scan.xyz[scan.of_point[rows]], colour))
            axes.set_axis_off()
            axes.set_title(f"{names[scan.domain]}: {title}", fontsize=9, loc="left")
    there = np.unique(np.concatenate([told.scans[number].truth for number in shown]))
    patches = [Patch(color=palette[c] / 255, label=data.sheet.classes[c]) for c in there if c >= 0]
    figure.legend(handles=patches, loc="outside lower center", ncols=8, fontsize=7, frameon=False)
    text = (
        "A scan of each domain: its labels, what is said of it, where that is wrong (red), and the expert of "
        "greatest weight in the first layer. Grey: no label."
    )
    return Section("Scans", text, [figure])


@torch.no_grad()
def first_experts(network: PointMoE, data: Data, scan: Scan) -> np.ndarray:
    """(V,) the expert of greatest weight of each cell in the first layer."""
    chosen = np.zeros(len(scan), dtype=np.int64)
    parts = Tiles([scan], data.classes, data.points)
    for number, (_, rows) in enumerate(parts.rows):
        with record(network) as routings:
            network(parts.__getitems__([number]).points)
        routing = next(iter(routings.values()))[0]
        assert isinstance(routing, Routing)
        weight = routing.weight.new_zeros(len(rows), routing.num_experts)
        weight[routing.token, routing.expert] = routing.weight.view(len(routing.token), -1)[:, 0]
        chosen[rows] = weight.argmax(1).numpy()
    return chosen


def _confusion(data: Data, told: Told) -> Section:
    names = data.sheet.classes
    figure, grid = panels(len(_there(told)), columns=2, width=4.6, height=4.2)
    for axes, number in zip(grid, _there(told), strict=True):
        counts = np.zeros((len(names), len(names) + 1))
        for scan, label in zip(told.scans, told.labels, strict=True):
            if scan.domain == number:
                counts += confusion(scan.truth, label, len(names))
        shown = np.flatnonzero(data.classes[number] & (counts.sum(1) > 0))
        share = counts[np.ix_(shown, shown)] / counts[shown].sum(1, keepdims=True)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        axes.set_xticks(range(len(shown)), [names[c] for c in shown], rotation=90, fontsize=7)
        axes.set_yticks(range(len(shown)), [names[c] for c in shown], fontsize=7)
        axes.set_title(data.sheet.domains[number].name, fontsize=9, loc="left")
        axes.set_xlabel("told", fontsize=8)
        axes.set_ylabel("truth", fontsize=8)
    text = "Of the points of each class (a row), the share that is said to be of each."
    return Section("Confusion", text, [figure])


@torch.no_grad()
def _experts(network: PointMoE, data: Data, scans: list[Scan]) -> Section:
    batch = Tiles(scans, data.classes, data.points).some(LOOKED_AT)
    names, classes = [domain.name for domain in data.sheet.domains], list(data.sheet.classes)
    domain = batch.points.domain[batch.points.cloud]
    label = torch.where(batch.label < 0, len(classes), batch.label)
    with record(network) as routings:
        network(batch.points)
    lines = []
    for layer, (routing, *_) in routings.items():
        if isinstance(routing, Routing) and routing.num_tokens == len(domain):
            by_class = shares_by(routing, label, len(classes) + 1)[:, :-1]
            by_domain = shares_by(routing, domain, len(names))
            maps = [
                ExpertMap(layer, "domain", names, by_domain),
                ExpertMap(layer, "class", classes, by_class),
            ]
            lines.append(maps)
    text = "In the layers of the finest grid: the share of each expert in what it is given of each."
    return Section("Experts by domain and class", text, [expert_maps(lines)] if lines else [])


def _there(told: Told) -> list[int]:
    """Numbers of the domains that have scans."""
    return sorted({scan.domain for scan in told.scans})
