"""What a network is told of a point, whatever the sensor: its surroundings, and what the sensor says or not.

Legend: N points, V cells, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apps.pointcloud.cloud import UNKNOWN, Cloud
from apps.pointcloud.grid import cells, height, shapes, side_of, thin

NEAR = (16, 64)
"""Neighbours of the two neighbourhoods whose shapes are told."""
SHAPE = ("linearity", "planarity", "scattering", "verticality")
PLACE = ("height", "log side")
GIVEN_NAMES = {
    "intensity": ("intensity", "has intensity"),
    "colour": ("red", "green", "blue", "has colour"),
    "echo": ("echo", "echoes", "has echo"),
}
NAMES = (
    *SHAPE,
    *(f"wide {name}" for name in SHAPE),
    *PLACE,
    *(name for kind in GIVEN_NAMES.values() for name in kind),
)
HEIGHT = NAMES.index("height")
GIVEN = {
    kind: slice(NAMES.index(names[0]), NAMES.index(names[-1]) + 1) for kind, names in GIVEN_NAMES.items()
}
"""Features that hang on the sensor."""


@dataclass(frozen=True)
class Scan:
    """A cloud on its grid.

    name: of the scan; domain: number of its own; side: of a cell, metres; cell: (V, 3) int64; xyz: (V, 3)
    metres of the point that stands for a cell; features: (V, F); label: (V,) int64; of_point: (N,) the cell
    of each point; truth: (N,) labels of the points.
    """

    name: str
    domain: int
    side: float
    cell: np.ndarray
    xyz: np.ndarray
    features: np.ndarray
    label: np.ndarray
    of_point: np.ndarray
    truth: np.ndarray

    def __len__(self) -> int:
        return len(self.xyz)


def scan_of(
    cloud: Cloud, name: str = "", domain: int = 0, side: float | None = None, shaped: bool = True
) -> Scan:
    """Put a cloud on a grid.

    Args:
        cloud: some points.
        name: of the scan.
        domain: number of its own.
        side: of a cell, metres; by default as the density of the points says.
        shaped: tell the shapes of neighbourhoods, else 0.
    """
    side = side_of(cloud.xyz) if side is None else side
    rows, of_point = thin(cells(cloud.xyz, side))
    kept = cloud.take(rows)
    unknown = np.full(len(cloud), UNKNOWN)
    truth = unknown if cloud.label is None else cloud.label
    return Scan(
        name,
        domain,
        side,
        cells(kept.xyz, side),
        kept.xyz,
        features(kept, side, shaped),
        truth[rows],
        of_point,
        truth,
    )


def features(cloud: Cloud, side: float, shaped: bool = True) -> np.ndarray:
    """(N, F) float32, those that the sensor does not tell being 0, as says the last of each kind."""
    found = np.zeros((len(cloud), len(NAMES)), dtype=np.float32)
    if shaped:
        found[:, :HEIGHT] = shapes(cloud.xyz, NEAR)
    found[:, HEIGHT] = np.log1p(height(cloud.xyz, side))
    found[:, HEIGHT + 1] = np.log(side)
    if cloud.intensity is not None:
        found[:, GIVEN["intensity"]] = np.stack([cloud.intensity, np.ones(len(cloud))], 1)
    if cloud.colour is not None:
        found[:, GIVEN["colour"]] = np.column_stack([cloud.colour / 255 - 0.5, np.ones(len(cloud))])
    if cloud.echo is not None:
        number, many = cloud.echo[:, 0].astype(np.float32), np.maximum(cloud.echo[:, 1], 1)
        found[:, GIVEN["echo"]] = np.stack([number / many, np.log2(many), np.ones(len(cloud))], 1)
    return found
