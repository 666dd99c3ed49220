"""Points on a grid: how dense they are, which stand for their cell, and how they lie around each other.

Legend: N points, V cells that have some.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from apps.common.errors import UserError
from apps.pointcloud.curves import BITS

SAMPLE = 4000
"""Points by which density is told."""
FAR = 100.0
"""A cell so many times wider or narrower than what a scan's density asks for is taken for a mistake."""
WIDE = 1.5
"""Sides of a cell, in distances between neighbours where these are large."""
HALF = 2 ** (BITS - 1) - 1
"""Cells from the middle of a crop to its edge, at most."""
PIECE = 65_536
"""Points whose neighbours are held at once."""
GROUND = 32
"""Width, in cells, of the squares whose lowest points are taken for the ground."""
RANK = 2
"""So many points of a square may lie below its ground: echoes from under it are few."""


def side_of(xyz: np.ndarray) -> float:
    """The side of a cell that thins out what is dense and keeps what is sparse, metres.

    It is 1.5 times the distance to the nearest neighbour that three quarters of the points stay below: so a
    network is told how dense a scan is, and not which sensor made it.
    """
    rows = np.random.default_rng(0).choice(len(xyz), min(SAMPLE, len(xyz)), replace=False)
    distance = cKDTree(xyz).query(xyz[rows], k=2)[0][:, 1]
    distance = distance[np.isfinite(distance) & (distance > 0)]
    return WIDE * float(np.quantile(distance, 0.75)) if len(distance) else 1.0


def fitting(wanted: float | None, own: float, what: str) -> float:
    """The side of a cell that is wanted, by default that of the scan's own density, metres.

    Raises UserError where the two are far apart.
    """
    if wanted is not None and not own / FAR <= wanted <= own * FAR:
        raise UserError(
            f"{what}: its points ask for cells of {own:.2g} m, and not of {wanted:g}: mend `side`."
        )
    return own if wanted is None else wanted


def cells(xyz: np.ndarray, side: float) -> np.ndarray:
    """(N, 3) int64 the cell of each point, from 0."""
    cell = np.floor(xyz / side).astype(np.int64)
    return np.asarray(cell - cell.min(0))


def local(cell: np.ndarray) -> np.ndarray:
    """(V, 3) cells of one crop, from 0; those that lie beyond what curves hold are moved to its edge."""
    low = cell.min(0)
    if (cell.max(0) - low >= 2 * HALF).any():
        low = np.median(cell, axis=0).astype(np.int64) - HALF
    return np.asarray(np.clip(cell - low, 0, 2 * HALF))


def thin(cell: np.ndarray, random: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One point of each cell, at random or the first: its row (V,), and the number of each point's (N,)."""
    start = np.arange(len(cell)) if random is None else random.permutation(len(cell))
    order = start[np.lexsort(cell[start, ::-1].T)]
    is_new = np.concatenate([[True], (np.diff(cell[order], axis=0) != 0).any(1)])
    number = np.empty(len(cell), dtype=np.int64)
    number[order] = np.cumsum(is_new) - 1
    return order[is_new], number


def shapes(xyz: np.ndarray, nears: Sequence[int]) -> np.ndarray:
    """(N, 4 K) how the neighbours of each point lie: linearity, planarity, scattering, and verticality.

    Source: Demantke et al. 2011, "Dimensionality based scale selection in 3D lidar point clouds", eq. 2;
    Demantke et al. 2012, eq. 1, one less the height of the normal.

    Args:
        xyz: (N, 3).
        nears: sizes of K neighbourhoods, in points.
    """
    tree, most = cKDTree(xyz), min(max(nears), len(xyz))
    found = np.empty((len(xyz), 4 * len(nears)), dtype=np.float32)
    for first in range(0, len(xyz), PIECE):
        own = xyz[first : first + PIECE]
        around = xyz[tree.query(own, k=most)[1].reshape(len(own), most)] - own[:, None]
        parts = [_shape(around[:, :near].astype(np.float64)) for near in nears]
        found[first : first + PIECE] = np.concatenate(parts, 1)
    return found


def _shape(around: np.ndarray) -> np.ndarray:
    around = around - around.mean(1, keepdims=True)
    spread = np.einsum("nki,nkj->nij", around, around) / around.shape[1]
    value, way = np.linalg.eigh(spread)
    small, middle, large = np.sqrt(np.clip(value, 0, None)).T
    whole = np.maximum(large, 1e-12)
    found = [(large - middle) / whole, (middle - small) / whole, small / whole, 1 - np.abs(way[:, 2, 0])]
    return np.stack(found, 1)


def height(xyz: np.ndarray, side: float) -> np.ndarray:
    """(N,) float32 metres above the ground around, the lowest points but for a few; 0 for what is below."""
    square = cells(xyz[:, :2], GROUND * side) + 1
    wide = int(square.max()) + 2
    there, of_point, many = np.unique(
        square[:, 0] * wide + square[:, 1], return_inverse=True, return_counts=True
    )
    upwards = np.lexsort([xyz[:, 2], of_point])
    low = xyz[upwards[np.cumsum(many) - many + np.minimum(many - 1, RANK)], 2].astype(np.float64)
    lowest = low.copy()
    for step in (x * wide + y for x in (-1, 0, 1) for y in (-1, 0, 1)):
        beside = np.searchsorted(there, there + step).clip(max=len(there) - 1)
        np.minimum(lowest, np.where(there[beside] == there + step, low[beside], np.inf), out=lowest)
    return np.asarray(np.maximum(xyz[:, 2] - lowest[of_point], 0), dtype=np.float32)
