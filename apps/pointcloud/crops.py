"""Crops of scans: the cells around one of them, turned, scaled and dimmed at random for training.

Legend: B crops, T cells of them, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.utils.data import Dataset

from apps.pointcloud.features import GIVEN, HEIGHT, Scan
from apps.pointcloud.grid import cells, local, thin
from apps.pointcloud.model import Points

HIDDEN = 0.2
"""Chance that what a sensor says is withheld from a crop, kind by kind, so that nothing hangs on it alone."""
SCALE, JITTER = (0.9, 1.1), 0.1
"""Range of sizes of a crop, and deviation of its points in cells."""


class Batch(NamedTuple):
    """Cells of B crops, and their labels (T,) int64, -1 where not known."""

    points: Points
    label: Tensor


class Crop(NamedTuple):
    """One of them: cell (n, 3), features (n, F), label (n,), and the number of its domain."""

    cell: np.ndarray
    features: np.ndarray
    label: np.ndarray
    domain: int


class Crops(Dataset[Batch]):
    """Crops at random places; each row is of one domain, so that a shuffled batch mixes them.

    Args:
        scans: to crop.
        classes: (domains, C) bool.
        rows: crops an epoch.
        size: cells of a crop.
        shares: of the rows that each domain has.
        alone: rows that are of one domain in a row, to make batches of one; 1 for all mixed.
    """

    def __init__(
        self,
        scans: Sequence[Scan],
        classes: np.ndarray,
        rows: int,
        size: int,
        shares: np.ndarray,
        alone: int = 1,
    ) -> None:
        self.scans, self.classes, self.size, self.alone = scans, classes, size, alone
        self.trees = [cKDTree(scan.xyz) for scan in scans]
        self.domain = apportioned(shares, -(-rows // alone))

    def __len__(self) -> int:
        return len(self.domain)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        """Crop; the places follow numpy's global generator."""
        random = np.random.default_rng(np.random.randint(2**31))
        domains = np.repeat(self.domain[np.asarray(rows)], self.alone)
        return batch([self.crop(int(domain), random) for domain in domains], self.classes)

    def crop(self, domain: int, random: np.random.Generator) -> Crop:
        """The cells nearest to one at random, of a scan of a domain, the larger the likelier."""
        own = [number for number, scan in enumerate(self.scans) if scan.domain == domain]
        size = np.array([len(self.scans[number]) for number in own], dtype=float)
        number = int(random.choice(own, p=size / size.sum()))
        scan = self.scans[number]
        centre = scan.xyz[random.integers(len(scan))]
        _, rows = self.trees[number].query(centre, k=min(self.size, len(scan)))
        return augmented(scan, np.sort(np.atleast_1d(rows)), random)


def crop_of(scan: Scan, rows: np.ndarray) -> Crop:
    """Cells of a scan as they are."""
    return Crop(local(scan.cell[rows]), scan.features[rows], scan.label[rows], scan.domain)


def augmented(scan: Scan, rows: np.ndarray, random: np.random.Generator) -> Crop:
    """Cells of a scan, turned about the vertical, mirrored, scaled, jittered, and told less of.

    Of those that come to share a cell one is kept, at random.
    """
    angle, grow = random.uniform(0, 2 * np.pi), random.uniform(*SCALE)
    c, s = np.cos(angle), np.sin(angle)
    mirror = np.diag([random.choice([-1.0, 1.0]), 1.0, 1.0])
    turn = grow * np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ mirror
    xyz = (scan.xyz[rows] - scan.xyz[rows].mean(0)) @ turn.T
    xyz = xyz + random.normal(0, JITTER * scan.side, xyz.shape)
    cell = cells(xyz, scan.side)
    kept, _ = thin(cell, random)
    rows, cell = rows[kept], cell[kept]
    told = scan.features[rows].copy()
    told[:, HEIGHT] = np.log1p(np.expm1(told[:, HEIGHT]) * grow)
    for name, columns in GIVEN.items():
        if random.random() < HIDDEN:
            told[:, columns] = 0
        elif name != "echo":
            told[:, columns.start : columns.stop - 1] *= random.uniform(0.8, 1.2)
    return Crop(local(cell), told, scan.label[rows], scan.domain)


def batch(crops: Sequence[Crop], classes: np.ndarray) -> Batch:
    """Crops one after the other.

    Args:
        crops: of any sizes.
        classes: (domains, C) bool.
    """
    sizes = torch.tensor([len(crop.cell) for crop in crops])
    domain = torch.tensor([crop.domain for crop in crops])
    points = Points(
        torch.from_numpy(np.concatenate([crop.features for crop in crops])),
        torch.from_numpy(np.concatenate([crop.cell for crop in crops])),
        torch.repeat_interleave(torch.arange(len(crops)), sizes),
        domain,
        torch.from_numpy(classes)[domain],
    )
    return Batch(points, torch.from_numpy(np.concatenate([crop.label for crop in crops])))


def apportioned(shares: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) numbers of domains, each as often as its share says, to the nearest row."""
    ends = np.cumsum(shares) / np.sum(shares)
    return np.minimum(np.searchsorted(ends, (np.arange(rows) + 0.5) / rows, side="right"), len(shares) - 1)
