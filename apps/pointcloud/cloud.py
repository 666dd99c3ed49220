"""A cloud: points, what the sensor says of each, and their labels.

Legend: N points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from apps.common.errors import UserError

UNKNOWN = -1
"""The label of a point that is not to be learned from, nor measured."""
TALL = 50.0
"""A scan so many times higher than wide may be of degrees of longitude and latitude beside metres."""
DEGREES = 1.0
"""Width up to which that is looked for; a scan in metres as wide as high is never mistaken."""
FINE = 1e-4
"""It is where points lie closer side by side than that: no sensor sees tenths of a millimetre."""


@dataclass(frozen=True)
class Cloud:
    """Points of one scan; None is what its sensor does not say.

    xyz: (N, 3) float32, metres from `offset` (3,) float64, so that national grids keep their millimetres;
    intensity: (N,) float32, 0 to 1; colour: (N, 3) uint8; echo: (N, 2) uint8, number of the return and how
    many its pulse had; label: (N,) int64, `UNKNOWN` where not known.
    """

    xyz: np.ndarray
    offset: np.ndarray
    intensity: np.ndarray | None = None
    colour: np.ndarray | None = None
    echo: np.ndarray | None = None
    label: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.xyz)

    def take(self, rows: np.ndarray) -> Cloud:
        """Some points, by number or by whether they are wanted."""
        return replace(self, **{name: value[rows] for name, value in self.told().items()})

    def told(self) -> dict[str, np.ndarray]:
        """What is known of each point, coordinates first."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "offset"}
        return {name: value for name, value in values.items() if value is not None}

    def where(self) -> np.ndarray:
        """(N, 3) float64 coordinates as they were given."""
        return np.asarray(self.xyz.astype(np.float64) + self.offset)


def cloud_of(
    xyz: np.ndarray,
    what: str,
    told: Mapping[str, np.ndarray | None] | None = None,
    offset: np.ndarray | None = None,
) -> Cloud:
    """A cloud of coordinates as given.

    Args:
        xyz: (N, 3) metres, of any size.
        what: name of it, for messages: a file.
        told: values of the other fields of Cloud.
        offset: (3,) of it; the middle of the points by default.

    Raises:
        UserError: no points, other than three coordinates, coordinates that are no numbers, or other than one
            value a point.
    """
    xyz = np.asarray(xyz, dtype=np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise UserError(f"{what}: a point has three coordinates, and here is an array of {list(xyz.shape)}.")
    if not len(xyz):
        raise UserError(f"{what} holds no points: give a scan that has some.")
    refuse_gaps(xyz, what)
    given = {name: value for name, value in (told or {}).items() if value is not None}
    for name, value in given.items():
        if len(value) != len(xyz):
            raise UserError(f"{what}: {len(value):,} values of {name} for {len(xyz):,} points.")
    if offset is None:
        offset = np.floor(np.median(xyz, axis=0))  # no stray point moves it
    return Cloud((xyz - offset).astype(np.float32), offset, **given)


def refuse_gaps(xyz: np.ndarray, what: str) -> None:
    """Raise UserError where some coordinates (N, 3) are no numbers."""
    bad = ~np.isfinite(xyz).all(1)
    if bad.any():
        raise UserError(
            f"{what}: coordinates of {bad.sum():,} of {len(xyz):,} points are no numbers, the first of point "
            f"{int(bad.argmax())}: remove these points."
        )


def refuse_degrees(least: np.ndarray, most: np.ndarray, points: int, what: str) -> None:
    """Raise UserError where the ends of the coordinates (3,) of so many points are of longitude and latitude.

    They are where all could be, and the scan is far higher than wide and its points far too close.
    """
    width, height = float((most - least)[:2].max()), float(most[2] - least[2])
    within = max(-least[0], most[0]) <= 180 and max(-least[1], most[1]) <= 90
    if within and width < DEGREES and height > TALL * width and width < FINE * points**0.5:
        raise UserError(
            f"{what} is {width:.2g} wide and {height:.3g} high, as of longitude and latitude in degrees: use "
            "coordinates in metres, such as UTM (pdal translate in.las out.las reprojection "
            "--filters.reprojection.out_srs=EPSG:32631)."
        )
