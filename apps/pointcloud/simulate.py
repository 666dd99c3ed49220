"""Three kinds of scans that are made up: rooms, streets and towns, each by its own sensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from apps.common.loaders import derive_seed
from apps.pointcloud.cloud import Cloud
from apps.pointcloud.scenes import Random, room, street, town
from apps.pointcloud.sensors import airborne, depth_camera, spinning_lidar
from apps.pointcloud.solids import Solid


class Kind(NamedTuple):
    """Scenes, the sensor that sees them, and the classes of their points."""

    scene: Callable[[Random], list[Solid]]
    sensor: Callable[[Sequence[Solid], Sequence[str], Random], Cloud]
    classes: tuple[str, ...]


KINDS = {
    "rooms": Kind(
        room, depth_camera, ("floor", "ceiling", "wall", "door", "table", "chair", "shelf", "clutter")
    ),
    "streets": Kind(
        street,
        spinning_lidar,
        ("road", "sidewalk", "terrain", "building", "car", "vegetation", "trunk", "pole", "person"),
    ),
    "towns": Kind(town, airborne, ("ground", "building", "vegetation", "trunk", "car", "water")),
}


@lru_cache(maxsize=64)
def simulate(kind: str, number: int, seed: int = 0) -> Cloud:
    """The scan of that number of a kind; it is kept, and nobody changes it."""
    scene, sensor, classes = KINDS[kind]
    random = np.random.default_rng(derive_seed(seed, list(KINDS).index(kind), number))
    return sensor(scene(random), classes, random)
