"""What is said of held-out impressions, measured: by task, and by how well users and items are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from apps.recsys.impressions import Impressions
from apps.recsys.metrics import auc, calibration, calibration_error, gauc, log_loss
from apps.recsys.model import Ranker

CHUNK = 8192
SEGMENTS = ("few", "some", "many")
"""Thirds of the rows, by the training rows of their user or item."""


@dataclass
class Scored:
    """Held-out rows, and what was said of them.

    chance, label: (N, K), a label NaN where not known; user: (N,), -1 where nobody is told; activity, fame:
    (N,) training rows of the user and of the item.
    """

    tasks: list[str]
    chance: np.ndarray
    label: np.ndarray
    user: np.ndarray
    activity: np.ndarray
    fame: np.ndarray

    def only(self, rows: np.ndarray) -> Scored:
        """Some rows."""
        parts = (self.chance, self.label, self.user, self.activity, self.fame)
        return Scored(self.tasks, *(part[rows] for part in parts))

    def of_task(self, task: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Chances, labels and users (n,) of the rows whose label is known."""
        known = ~np.isnan(self.label[:, task])
        return self.chance[known, task], self.label[known, task], self.user[known]


def scored(network: Ranker, rows: Impressions) -> Scored:
    """Ask a network for all rows."""
    return with_chances(chances(network, rows), network.tasks, rows)


@torch.no_grad()
def chances(network: Ranker, rows: Impressions) -> np.ndarray:
    """(N, K) chances."""
    places = torch.split(torch.arange(len(rows)), CHUNK)
    return torch.cat([network(rows.__getitems__(some)).sigmoid() for some in places]).double().numpy()


def with_chances(chance: np.ndarray, tasks: Sequence[str], rows: Impressions) -> Scored:
    """Put chances (N, K) beside the labels."""
    label = rows.batch.labels.double().numpy()
    return Scored(list(tasks), chance, label, rows.user, rows.activity, rows.fame)


def segments(found: Scored) -> Iterator[tuple[str, Scored]]:
    """All rows, and thirds of them by how often their user, and their item, came in training.

    Nothing is cut where all are known alike.
    """
    yield "all", found
    for what, count in (("user", found.activity), ("item", found.fame)):
        ends = np.quantile(count, [1 / 3, 2 / 3])
        third = np.searchsorted(ends, count, side="left")
        if len(np.unique(third)) == len(SEGMENTS):
            yield from ((f"{what}, {name} rows", found.only(third == i)) for i, name in enumerate(SEGMENTS))


def measured(name: str, found: Scored) -> list[dict[str, Any]]:
    """A row for each task: how many, and every metric; NaN where a part has rows of one label alone."""
    rows = []
    for place, task in enumerate(found.tasks):
        chance, label, user = found.of_task(place)
        row: dict[str, Any] = {"slice": name, "task": task, "rows": len(label), "positives": int(label.sum())}
        if len(label):
            row |= {
                "auc": auc(chance, label),
                "gauc": gauc(chance, label, user),
                "log_loss": log_loss(chance, label),
                "calibration": calibration(chance, label),
                "ece": calibration_error(chance, label),
            }
            rows.append(row)
    return rows


def by_part(rows: Sequence[dict[str, Any]], metric: str = "auc") -> list[dict[str, Any]]:
    """Rows of `measured` as a table: a row for each part, a column for each task."""
    parts: dict[str, dict[str, Any]] = {}
    for row in rows:
        parts.setdefault(row["slice"], {"slice": row["slice"]})[row["task"]] = row.get(metric, float("nan"))
    return list(parts.values())
