"""A forest on geometric features: how surveyors have classified points for years.

Source: Weinmann et al. 2015, "Semantic point cloud interpretation based on optimal neighborhoods, relevant
features and efficient classifiers"; Thomas et al. 2018, "Semantic classification of 3D point clouds with
multiscale spherical neighborhoods". Shapes of neighbourhoods of several sizes, height above ground, and what
the sensor says.

Legend: V cells, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from apps.pointcloud.features import HEIGHT, Scan
from apps.pointcloud.grid import shapes

NEAR = (8, 32, 96)
"""Neighbours of the neighbourhoods."""


class Forest:
    """Classes of cells by trees.

    Args:
        trees: number of them.
        leaf: cells in a leaf at least.
        cells: that each tree draws from all of them, at most.
        seed: of the trees, and of which cells.
    """

    def __init__(self, trees: int = 200, leaf: int = 5, cells: int = 100_000, seed: int = 0) -> None:
        self.cells = cells
        self.forest = RandomForestClassifier(
            trees, min_samples_leaf=leaf, class_weight="balanced_subsample", random_state=seed, n_jobs=1
        )

    def fit(self, scans: Sequence[Scan]) -> Forest:
        """Learn from the known cells of scans, each domain counting alike."""
        told = np.concatenate([geometry(scan) for scan in scans])
        label = np.concatenate([scan.label for scan in scans])
        domain = np.concatenate([np.full(len(scan), scan.domain) for scan in scans])[label >= 0]
        told, label = told[label >= 0], label[label >= 0]
        self.forest.max_samples = min(self.cells, len(label))
        self.forest.fit(told, label, sample_weight=1 / np.bincount(domain)[domain])
        return self

    def predict(self, seen: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """(V,) the likeliest class of each cell among those that may be (C,), by its `geometry` (V, F)."""
        chance = self.forest.predict_proba(seen)
        may = classes[self.forest.classes_]
        return np.asarray(self.forest.classes_[np.where(may, chance, -1).argmax(1)])


def geometry(scan: Scan) -> np.ndarray:
    """(V, F) what trees see of each cell."""
    return np.concatenate([shapes(scan.xyz, NEAR), scan.features[:, HEIGHT:]], 1)
