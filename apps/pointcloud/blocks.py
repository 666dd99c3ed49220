"""Scans too large for memory: points kept on disk, and gone through block by block.

Legend: N points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from apps.common.errors import UserError
from apps.pointcloud.cloud import Cloud, cloud_of, refuse_degrees, refuse_gaps
from apps.pointcloud.files import Piece
from apps.pointcloud.units import Units

FINE = 256
"""Squares along the longer side of a scan, of which blocks are made."""
SAMPLE = 10**6
"""Points by which units and the extent of a scan are told, about."""
STRAY = 0.001
"""Share of the points that may lie beyond the squares, along each axis and way; the outermost hold them."""
KINDS = {"xyz": ("f8", 3), "intensity": ("f4", 1), "colour": ("f4", 3), "echo": ("u1", 2)}
"""What is kept of a point: type and columns."""


class Block(NamedTuple):
    """Points of a rectangle (rows), with those around it (rows, of which the first are its own)."""

    rows: np.ndarray
    around: np.ndarray


class Store:
    """Points of a scan, on disk.

    Args:
        folder: where they are kept.
        pieces: of the scan.
        what: name of it, for messages.

    Attributes:
        points: N.

    Raises:
        UserError: as `cloud_of` does, and where one piece says what another does not.
    """

    def __init__(self, folder: Path, pieces: Iterable[Piece], what: str) -> None:
        self.what, self.points = what, 0
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        names: set[str] | None = None
        files = {name: (folder / name).open("wb") for name in KINDS}
        for piece in pieces:
            own = set(piece) & set(KINDS)
            names = own if names is None else names
            if own != names:
                raise UserError(f"{what}: points {self.points:,} and on say other things than those before.")
            xyz = piece["xyz"]
            if len(xyz):
                refuse_gaps(xyz, what)
            for name in own:
                values = xyz if name == "xyz" else piece[name]
                files[name].write(np.ascontiguousarray(values, KINDS[name][0]).tobytes())
            if len(xyz):
                low, high = np.minimum(low, xyz.min(0)), np.maximum(high, xyz.max(0))
            self.points += len(xyz)
        for file in files.values():
            file.close()
        if not self.points:
            raise UserError(f"{what} holds no points: give a scan that has some.")
        refuse_degrees(low, high, self.points, what)
        self._values = {
            name: np.memmap(folder / name, kind, "r", shape=(self.points, columns))
            for name, (kind, columns) in KINDS.items()
            if name in (names or ())
        }
        some = {name: np.array(value[:: -(-self.points // SAMPLE)]) for name, value in self._values.items()}
        self.units, self.offset = Units.of(some), np.floor(np.median(some["xyz"], axis=0))
        self.low, self.high = np.quantile(some["xyz"][:, :2], [STRAY, 1 - STRAY], axis=0)

    def cloud(self, rows: np.ndarray) -> Cloud:
        """Some points, with one offset for all, so that blocks are cut into cells of one grid."""
        told = {name: np.array(value[rows]) for name, value in self._values.items()}
        xyz = told.pop("xyz")
        if "intensity" in told:
            told["intensity"] = told["intensity"][:, 0]
        return cloud_of(xyz, self.what, self.units.apply(told), self.offset)

    def where(self, rows: np.ndarray | slice) -> np.ndarray:
        """(n, 3) float64 coordinates of some points, as they were given."""
        return np.array(self._values["xyz"][rows])


class Blocks:
    """The points of a store by rectangles, of which none has many more than wanted.

    Args:
        store: of the points.
        folder: where their order is kept.
        size: points of a rectangle at most, unless all lie in one small square.
    """

    def __init__(self, store: Store, folder: Path, size: int) -> None:
        self.store = store
        self.edge = max(float((store.high - store.low).max()) / FINE, 1e-9)
        counts = np.zeros((FINE + 1, FINE + 1), dtype=np.int64)
        for _, square in self._squares():
            np.add.at(counts, (square[:, 0], square[:, 1]), 1)
        self.rectangles = list(rectangles(counts, size))
        owner = np.zeros(counts.shape, dtype=np.int64)
        for number, (x, y) in enumerate(self.rectangles):
            owner[x, y] = number
        self.sizes = np.array([int(counts[x, y].sum()) for x, y in self.rectangles])
        self.begin = np.concatenate([[0], np.cumsum(self.sizes)])
        self.order = np.memmap(folder / "order", "i8", "w+", shape=(store.points,))
        filled = self.begin[:-1].copy()
        for first, square in self._squares():
            own = owner[square[:, 0], square[:, 1]]
            rows = np.argsort(own, kind="stable")
            for number, many in zip(*np.unique(own, return_counts=True), strict=True):
                start = int(np.searchsorted(own[rows], number))
                self.order[filled[number] : filled[number] + many] = first + rows[start : start + many]
                filled[number] += many

    def __len__(self) -> int:
        return len(self.rectangles)

    def rows(self, number: int) -> np.ndarray:
        """Points of a rectangle."""
        return np.array(self.order[self.begin[number] : self.begin[number + 1]])

    def block(self, number: int, margin: float) -> Block:
        """A rectangle with what lies within a margin of it, metres."""
        own = self.rows(number)
        low, high = (np.array(end) for end in self.ends(number, margin))
        parts = [own]
        for other in range(len(self)):
            if other != number and self._meets(other, low, high):
                rows = self.rows(other)
                flat = self.store.where(rows)[:, :2]
                parts.append(rows[((flat >= low) & (flat <= high)).all(1)])
        return Block(own, np.concatenate(parts))

    def ends(self, number: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """The corners (2,) of a rectangle with a margin, metres; one at the edge goes on without end."""
        x, y = self.rectangles[number]
        first, last = np.array([x.start, y.start]), np.array([x.stop, y.stop])
        low = np.where(first == 0, -np.inf, self.store.low + self.edge * first - margin)
        return low, np.where(last > FINE, np.inf, self.store.low + self.edge * last + margin)

    def _meets(self, number: int, low: np.ndarray, high: np.ndarray) -> bool:
        own_low, own_high = self.ends(number, 0.0)
        return bool((own_low <= high).all() and (own_high >= low).all())

    def _squares(self) -> Iterator[tuple[int, np.ndarray]]:
        """The squares (n, 2) of points, piece by piece, and the number of the first of each piece."""
        step = 1 << 20
        for first in range(0, self.store.points, step):
            flat = self.store.where(slice(first, first + step))[:, :2]
            yield first, np.floor((flat - self.store.low) / self.edge).clip(0, FINE).astype(np.int64)


def rectangles(counts: np.ndarray, size: int) -> Iterator[tuple[slice, slice]]:
    """Parts of a grid of counts, halved until none holds more than `size` or it is a single square; those
    that hold nothing are left out."""
    left = [(slice(0, counts.shape[0]), slice(0, counts.shape[1]))]
    while left:
        x, y = left.pop()
        part = counts[x, y]
        total = int(part.sum())
        if not total:
            continue
        if total <= size or part.size == 1:
            yield x, y
            continue
        axis = int(part.shape[1] > part.shape[0])
        along = part.sum(1 - axis).cumsum()
        cut = min(max(int(np.searchsorted(along, total / 2)) + 1, 1), part.shape[axis] - 1)
        whole = (x, y)[axis]
        middle = whole.start + cut
        for half in (slice(whole.start, middle), slice(middle, whole.stop)):
            left.append((half, y) if axis == 0 else (x, half))
