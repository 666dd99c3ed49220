"""What a network says of whole scans, measured: by domain, by class, and by what classes mean.

Legend: N points, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from rich.progress import Progress
from torch import Tensor

from apps.pointcloud.data import Data
from apps.pointcloud.features import Scan
from apps.pointcloud.metrics import accuracy, confusion, meant, miou
from apps.pointcloud.model import PointMoE, Points
from apps.pointcloud.sheet import Sheet
from apps.pointcloud.tiles import chances

ALL = "all"
"""The slice of every domain, each counting alike."""


@dataclass(frozen=True)
class Told:
    """Scans of one part and the class that each point (N,) is said to be, and how long that took."""

    scans: list[Scan]
    labels: list[np.ndarray]
    seconds: float

    @property
    def points(self) -> int:
        """Of all scans."""
        return sum(len(label) for label in self.labels)


def tell(
    ask: Callable[[Points], Tensor],
    scans: Sequence[Scan],
    classes: np.ndarray,
    size: int,
    tick: Callable[[int], object] = lambda points: None,
) -> Told:
    """Label the points of scans, each cell by the mean of its tiles and each point as its cell.

    Args:
        ask: cells to scores.
        scans: to label.
        classes: (D, C) bool, what the labels of each domain may be.
        size: cells of a tile.
        tick: told the cells of each tile that is done.
    """
    began = time.process_time()
    labels = [chances(ask, scan, classes, size, tick).argmax(1)[scan.of_point] for scan in scans]
    return Told(list(scans), labels, time.process_time() - began)


def asked(network: PointMoE, data: Data, split: Literal["validation", "test"]) -> Told:
    """Label all scans of a part, and show how far that is."""
    scans = data.part(split)
    with Progress(transient=True) as progress:
        bar = progress.add_task("Labelling", total=sum(len(scan) for scan in scans))
        return tell(network, scans, data.classes, data.points, lambda cells: progress.advance(bar, cells))


def counts_of(told: Told, sheet: Sheet) -> dict[str, np.ndarray]:
    """Confusion (C, C + 1) of each domain, by name."""
    return _by_domain(told, sheet, len(sheet.classes), lambda truth, label: (truth, label))


def shared_counts(told: Told, sheet: Sheet) -> dict[str, np.ndarray]:
    """Confusion of what classes mean, (M, M + 1) of each domain; points of no shared meaning are left out,
    and what is said to be of none is wrong."""
    return _by_domain(told, sheet, len(sheet.meanings), partial(meanings, sheet))


def meanings(sheet: Sheet, truth: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What classes (N,) mean, those that are true, -1 for none that is shared, and those that are told."""
    none = len(sheet.meanings)
    true, said = meant(truth, sheet.shared, none), meant(label, sheet.shared, none)
    return np.where(true < none, true, -1), said


def measured(counts: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """A row of the mean over domains, and one for each."""
    rows: list[dict[str, Any]] = [
        {"slice": name, "points": int(each.sum()), "miou": miou(each), "accuracy": accuracy(each)}
        for name, each in counts.items()
    ]
    mean = {name: float(np.nanmean([row[name] for row in rows])) for name in ("miou", "accuracy")}
    return [{"slice": ALL, "points": sum(row["points"] for row in rows), **mean}, *rows]


def by_class(
    counts: dict[str, np.ndarray], names: Sequence[str], measure: Callable[[np.ndarray], np.ndarray]
) -> list[dict[str, Any]]:
    """A row a class: what it has by a measure, in each domain with points of it; not finite elsewhere."""
    each = {domain: measure(of_domain) for domain, of_domain in counts.items()}
    rows = []
    for place, name in enumerate(names):
        values = {domain: float(found[place]) for domain, found in each.items()}
        if np.isfinite(list(values.values())).any():
            rows.append({"class": name, **values})
    return rows


def _by_domain(
    told: Told,
    sheet: Sheet,
    classes: int,
    translate: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for scan, label in zip(told.scans, told.labels, strict=True):
        name, own = sheet.domains[scan.domain].name, confusion(*translate(scan.truth, label), classes)
        found[name] = found[name] + own if name in found else own
    return found
