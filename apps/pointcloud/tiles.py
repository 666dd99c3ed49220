"""Labelling a whole scan: tiles that overlap, and votes where they do.

Legend: V cells of a scan, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from apps.pointcloud.crops import batch, crop_of
from apps.pointcloud.features import Scan
from apps.pointcloud.model import Points

MARGIN = 0.3
"""Share of a tile's radius by which it looks beyond its edges."""
MOST = 8
"""A tile so many times fuller with its margin looks at its own cells alone: some point of it lies far off."""


def tiles(xyz: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Numbers of the points of tiles, each point in one: halves of halves, across the longer side.

    Args:
        xyz: (V, 3).
        size: points of a tile at most.
    """
    left = [np.arange(len(xyz))]
    while left:
        rows = left.pop()
        if len(rows) <= size:
            yield rows
            continue
        flat = xyz[rows, :2]
        axis = int(np.ptp(flat, axis=0).argmax())
        order = np.argsort(flat[:, axis], kind="stable")
        left += [rows[order[len(order) // 2 :]], rows[order[: len(order) // 2]]]


@torch.no_grad()
def chances(
    ask: Callable[[Points], Tensor],
    scan: Scan,
    classes: np.ndarray,
    size: int,
    tick: Callable[[int], object] = lambda points: None,
) -> np.ndarray:
    """(V, C) float32 chances of the classes: the mean of what all tiles say that see a cell.

    Args:
        ask: cells to scores (T, C).
        scan: to label.
        classes: (D, C) bool, those that may be, by domain.
        size: cells of a tile at most, without its margin.
        tick: told the cells of each tile that is done.
    """
    tree = cKDTree(scan.xyz[:, :2])
    votes = np.zeros((len(scan), classes.shape[1]), dtype=np.float32)
    for own in tiles(scan.xyz, size):
        flat = scan.xyz[own, :2]
        low, high = flat.min(0), flat.max(0)
        reach = MARGIN * float(np.linalg.norm(high - low)) / 2
        around = np.asarray(tree.query_ball_point((low + high) / 2, np.linalg.norm(high - low) / 2 + reach))
        near = scan.xyz[around, :2]
        inside = ((near >= low - reach) & (near <= high + reach)).all(1)
        rows = np.sort(around[inside]) if inside.sum() <= MOST * size else own
        scores = ask(batch([crop_of(scan, rows)], classes).points)
        votes[rows] += scores.softmax(1).float().cpu().numpy()
        tick(len(own))
    return np.asarray(votes / votes.sum(1, keepdims=True))
