"""Convex solids, and where rays meet them: all that simulated scenes are made of.

Legend: P planes of a solid, R rays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Solid:
    """The points x with normals @ x <= limits.

    normals: (P, 3) unit vectors outwards; limits: (P,) metres; centre, radius: of a ball around it; kind:
    name of its class; shine: share of light that it sends back; colour: (3,) 0 to 255; free: mean metres that
    light goes inside before it meets a leaf, 0 for a solid that lets none in.
    """

    normals: np.ndarray
    limits: np.ndarray
    centre: np.ndarray
    radius: float
    kind: str
    shine: float = 0.5
    colour: tuple[int, int, int] = (128, 128, 128)
    free: float = 0.0


def box(centre: Sequence[float], size: Sequence[float], kind: str, turn: float = 0.0, **look: Any) -> Solid:
    """A box of that size (3,), turned about the vertical through its centre by radians."""
    c, s = np.cos(turn), np.sin(turn)
    axes = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])
    normals = np.concatenate([axes, -axes])
    half = np.asarray(size, float) / 2
    return _around(centre, normals, np.tile(half, 2), float(np.linalg.norm(half)), kind, **look)


def prism(
    foot: Sequence[float], radius: float, height: float, kind: str, sides: int = 8, **look: Any
) -> Solid:
    """An upright column with a regular foot, whose sides touch a circle of that radius."""
    angle = 2 * np.pi * np.arange(sides) / sides
    around = np.stack([np.cos(angle), np.sin(angle), np.zeros(sides)], 1)
    normals = np.concatenate([around, [[0, 0, 1.0], [0, 0, -1.0]]])
    reach = np.array([radius] * sides + [height, 0.0])
    return _around(
        foot, normals, reach, float(np.hypot(radius / np.cos(np.pi / sides), height)), kind, **look
    )


def gable(
    centre: Sequence[float], size: Sequence[float], pitch: float, kind: str, turn: float, **look: Any
) -> Solid:
    """A house of that size (3,) up to the eaves, on its foot's centre, under a roof of a pitch in radians."""
    c, s = np.cos(turn), np.sin(turn)
    along, across, up = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])
    roof = [np.cos(pitch) * up + side * np.sin(pitch) * across for side in (1, -1)]
    eaves = np.cos(pitch) * size[2] + np.sin(pitch) * size[1] / 2
    normals = np.array([along, -along, across, -across, -up, *roof])
    limits = np.array([size[0] / 2, size[0] / 2, size[1] / 2, size[1] / 2, 0, eaves, eaves])
    ridge = size[2] + np.tan(pitch) * size[1] / 2
    radius = float(np.linalg.norm([size[0] / 2, size[1] / 2, ridge]))
    return _around(centre, normals, limits, radius, kind, **look)


def ball(centre: Sequence[float], size: Sequence[float], kind: str, **look: Any) -> Solid:
    """A body of 20 faces, which touch an ellipsoid of that size (3,)."""
    golden = (1 + 5**0.5) / 2
    ends = (-1.0, 1.0)
    corners = [(a, b, c) for a in ends for b in ends for c in ends]
    for one in (-1 / golden, 1 / golden):
        for other in (-golden, golden):
            corners += [(0.0, one, other), (one, other, 0.0), (other, 0.0, one)]
    unit = np.array(corners) / 3**0.5
    scaled = unit / (np.asarray(size, float) / 2)
    length = np.linalg.norm(scaled, axis=1)
    radius = 1.3 * max(size) / 2  # the corners of 20 faces lie 1.26 times as far as where they touch
    return _around(centre, scaled / length[:, None], 1 / length, radius, kind, **look)


@dataclass(frozen=True)
class Hits:
    """What rays meet: distance (R,) metres, infinite for nothing; solid (R,) its number; cosine (R,) of the
    ray to the face, 1 for a leaf."""

    distance: np.ndarray
    solid: np.ndarray
    cosine: np.ndarray


def cast(origins: np.ndarray, ways: np.ndarray, solids: Sequence[Solid], random: np.random.Generator) -> Hits:
    """The first thing that each ray meets.

    Leaves stand in a solid at random, so that light goes through it or not.

    Args:
        origins: (R, 3) metres.
        ways: (R, 3) unit vectors.
        solids: of the scene.
        random: of the leaves.
    """
    rays = len(ways)
    hits = Hits(np.full(rays, np.inf), np.full(rays, -1), np.ones(rays))
    for number, solid in enumerate(solids):
        rows = np.flatnonzero(_near(origins, ways, solid))
        enter, leave, plane = crossings(origins[rows], ways[rows], solid)
        if solid.free:
            meets = np.maximum(enter, 0) + random.exponential(solid.free, len(rows))
            found = (leave > 0) & (meets < leave)
        else:
            meets, found = enter, (enter > 0) & (leave > enter)
        found &= meets < hits.distance[rows]
        rows, plane = rows[found], plane[found]
        hits.distance[rows], hits.solid[rows] = meets[found], number
        slope = np.abs((ways[rows] * solid.normals[plane]).sum(1))
        hits.cosine[rows] = 1.0 if solid.free else slope
    return hits


def crossings(
    origins: np.ndarray, ways: np.ndarray, solid: Solid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rays enter and leave a solid, (R,) metres, and by which plane they enter; a ray that misses it
    leaves before it enters.

    Source: Kay and Kajiya 1986, "Ray Tracing Complex Scenes", section 2.
    """
    toward, left = ways @ solid.normals.T, solid.limits - origins @ solid.normals.T
    with np.errstate(divide="ignore", invalid="ignore"):
        at = left / toward
    beside = np.where((toward == 0) & (left < 0), np.inf, -np.inf)
    enter, leave = np.where(toward < 0, at, beside), np.where(toward > 0, at, np.inf)
    return enter.max(1), leave.min(1), enter.argmax(1)


def _near(origins: np.ndarray, ways: np.ndarray, solid: Solid) -> np.ndarray:
    """(R,) whether a ray meets the ball around a solid."""
    to = solid.centre - origins
    along = (to * ways).sum(1)
    near = (to**2).sum(1) - along**2 <= solid.radius**2
    return np.asarray(near & (along > -solid.radius))


def _around(
    centre: Sequence[float], normals: np.ndarray, reach: np.ndarray, radius: float, kind: str, **look: Any
) -> Solid:
    """A solid whose planes lie `reach` (P,) from a point, and which lies within a radius of that."""
    at = np.asarray(centre, float)
    return Solid(normals, reach + normals @ at, at, radius, kind, **look)
