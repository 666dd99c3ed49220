"""A depth camera, a spinning LiDAR and an airborne scanner, as rays into a scene.

Each gives what such a sensor gives: its own density, reach, noise, and what it tells of a point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apps.pointcloud.cloud import Cloud, cloud_of
from apps.pointcloud.scenes import HALF, Random
from apps.pointcloud.solids import Hits, Solid, cast

VIEWS, PIXELS, FIELD = 6, (72, 54), (1.22, 0.98)
"""Pictures of a depth camera, their pixels, and their field in radians."""
DEPTH = (0.3, 6.0)
"""What it sees, metres."""
BEAMS, TURNS, LIFT, HEIGHT, REACH = 64, 420, (-0.434, 0.035), 1.73, 80.0
"""Beams of a spinning LiDAR, shots a turn, its field in radians (-24.9 to 2 degrees), metres above the road,
and its reach: those of the HDL-64E of KITTI, with a fifth of its shots."""
FLIGHT, SWATH, STEP = 500.0, 0.35, 0.55
"""Metres above ground of an airborne scanner, half its field in radians, and metres between its shots."""
ECHOES, BEHIND = 3, 0.6
"""Returns of a pulse at most, and the chance that behind a leaf there is another."""


def depth_camera(solids: Sequence[Solid], names: Sequence[str], random: Random) -> Cloud:
    """Pictures from several places of a room, at eye level; no intensity, but colour.

    Depth has a deviation of 1.5 mm times the square of metres, as of structured light (Khoshelham and
    Elberink 2012, eq. 10).
    """
    width, depth = _floor(solids)
    origins, ways = [], []
    for view in range(VIEWS):
        eye = np.array([*random.uniform((0.6, 0.6), (width - 0.6, depth - 0.8)), random.uniform(1.3, 1.7)])
        look, down = 2 * np.pi * (view + random.uniform(0, 0.5)) / VIEWS, random.uniform(-0.5, 0.2)
        u, v = np.meshgrid(
            *(np.linspace(-1, 1, n) * np.tan(f / 2) for n, f in zip(PIXELS, FIELD, strict=True))
        )
        ahead = np.array([np.cos(look) * np.cos(down), np.sin(look) * np.cos(down), np.sin(down)])
        side = np.array([np.sin(look), -np.cos(look), 0])
        way = ahead + u.reshape(-1, 1) * side + v.reshape(-1, 1) * np.cross(side, ahead)
        ways.append(way / np.linalg.norm(way, axis=1, keepdims=True))
        origins.append(np.broadcast_to(eye, way.shape))
    start, way = np.concatenate(origins), np.concatenate(ways)
    hits = cast(start, way, solids, random)
    deep = hits.distance + random.normal(0, 1, len(way)) * 0.0015 * np.minimum(hits.distance, DEPTH[1]) ** 2
    seen = (hits.distance > DEPTH[0]) & (hits.distance < DEPTH[1])
    shade = 0.45 + 0.55 * hits.cosine[:, None]
    colour = np.array([solid.colour for solid in solids])[hits.solid] * shade + random.normal(0, 6, way.shape)
    told = {"colour": np.clip(colour, 0, 255).astype(np.uint8)}
    xyz = start + way * np.where(seen, deep, 0)[:, None]
    return _labelled(xyz, hits.solid, seen, solids, names, told)


def spinning_lidar(solids: Sequence[Solid], names: Sequence[str], random: Random) -> Cloud:
    """One turn in the middle of a street: rings that thin out with distance; intensity, no colour."""
    beams, shots = np.linspace(*LIFT, BEAMS), np.linspace(0, 2 * np.pi, TURNS, endpoint=False)
    lift, turn = (angle.ravel() for angle in np.meshgrid(beams, shots))
    lift = lift + random.normal(0, 5e-4, lift.size)
    way = np.stack([np.cos(lift) * np.cos(turn), np.cos(lift) * np.sin(turn), np.sin(lift)], 1)
    start = np.broadcast_to([random.uniform(-10, 10), random.uniform(-1.5, 1.5), HEIGHT], way.shape)
    hits = cast(start, way, solids, random)
    light = _light(hits, solids) * np.minimum(1, (20 / np.maximum(hits.distance, 1)) ** 2)
    seen = (hits.distance < REACH) & (random.random(len(way)) > 0.02 + 0.3 * (light < 0.01))
    deep = hits.distance + random.normal(0, 0.02, len(way))
    told = {"intensity": _noisy(light, random)}
    xyz = start + way * np.where(seen, deep, 0)[:, None]
    return _labelled(xyz, hits.solid, seen, solids, names, told)


def airborne(solids: Sequence[Solid], names: Sequence[str], random: Random) -> Cloud:
    """A strip from the air: even and thin, through leaves with several echoes; intensity, no colour."""
    x, y = np.meshgrid(np.arange(-HALF, HALF, STEP), np.arange(-HALF, HALF, STEP))
    ground = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], 1) + random.normal(0, STEP / 5, (x.size, 3))
    path = random.uniform(-1, 1) * FLIGHT * np.tan(SWATH) / 2
    eye = np.stack([np.full(x.size, path), ground[:, 1], np.full(x.size, FLIGHT)], 1)
    way = ground - eye
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    start, alive, pulses = eye.copy(), np.arange(x.size), np.arange(x.size)
    where, what, light, numbers, owner = [], [], [], [], []
    for number in range(1, ECHOES + 1):
        hits = cast(start[alive], way[alive], solids, random)
        met = np.isfinite(hits.distance)
        alive, hits = alive[met], Hits(*(part[met] for part in (hits.distance, hits.solid, hits.cosine)))
        points = start[alive] + way[alive] * hits.distance[:, None]
        where.append(points)
        what.append(hits.solid)
        light.append(_light(hits, solids) / number)
        numbers.append(np.full(len(alive), number))
        owner.append(pulses[alive])
        leaf = np.array([solid.free > 0 for solid in solids])[hits.solid]
        on = leaf & (random.random(len(alive)) < BEHIND)
        start[alive[on]] = points[on] + way[alive[on]] * 0.5
        alive = alive[on]
    owners = np.concatenate(owner)
    echo = np.stack([np.concatenate(numbers), np.bincount(owners, minlength=x.size)[owners]], 1)
    xyz = np.concatenate(where) + random.normal(0, 1, (len(owners), 3)) * (0.06, 0.06, 0.03)
    solid, bright = np.concatenate(what), np.concatenate(light)
    dark = np.array([one.kind == "water" for one in solids])[solid] & (random.random(len(solid)) > 0.3)
    told = {"intensity": _noisy(bright, random), "echo": echo.astype(np.uint8)}
    return _labelled(xyz, solid, ~dark, solids, names, told)


def _labelled(
    xyz: np.ndarray,
    solid: np.ndarray,
    seen: np.ndarray,
    solids: Sequence[Solid],
    names: Sequence[str],
    told: dict[str, np.ndarray],
) -> Cloud:
    """The points that are seen, with the class of the solid of each."""
    number = {name: place for place, name in enumerate(names)}
    label = np.array([number[one.kind] for one in solids], dtype=np.int64)[solid[seen]]
    values = {name: value[seen] for name, value in told.items()}
    return cloud_of(xyz[seen], "a simulated scan", values | {"label": label})


def _light(hits: Hits, solids: Sequence[Solid]) -> np.ndarray:
    """What comes back of a pulse, before distance."""
    return np.asarray(np.array([solid.shine for solid in solids])[hits.solid] * hits.cosine)


def _noisy(light: np.ndarray, random: Random) -> np.ndarray:
    return np.clip(light * random.lognormal(0, 0.15, len(light)), 0, 1).astype(np.float32)


def _floor(solids: Sequence[Solid]) -> tuple[float, float]:
    """Width and depth of a room."""
    floor = next(solid for solid in solids if solid.kind == "floor")
    return float(2 * floor.centre[0]), float(2 * floor.centre[1])
