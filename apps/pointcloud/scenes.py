"""Rooms, streets and towns of solids, drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np

from apps.pointcloud.solids import Solid, ball, box, gable, prism

Random = np.random.Generator
LEAVES: dict[str, Any] = {"kind": "vegetation", "shine": 0.45, "colour": (60, 110, 50)}
ASPHALT, PAVING, GRASS = (90, 90, 95), (150, 145, 140), (95, 120, 70)
WOOD, CLOTH, PLASTER, BRICK = (140, 100, 60), (70, 80, 130), (225, 222, 215), (160, 95, 80)
ROOM = 2.6
"""Height of a room, metres."""
HALF = 45.0
"""Half the length of a street, and of the side of a town."""


def room(random: Random) -> list[Solid]:
    """A furnished room, seen from inside; the corner of its floor is the origin."""
    width, depth = random.uniform(4, 8, 2)
    solids = [
        box((width / 2, depth / 2, -0.1), (width, depth, 0.2), "floor", colour=_shade(WOOD, random)),
        box((width / 2, depth / 2, ROOM + 0.1), (width, depth, 0.2), "ceiling", colour=(235, 235, 235)),
    ]
    wall = _shade(PLASTER, random)
    for x, y, a, b in (
        (width / 2, -0.1, width, 0.2),
        (width / 2, depth + 0.1, width, 0.2),
        (-0.1, depth / 2, 0.2, depth),
        (width + 0.1, depth / 2, 0.2, depth),
    ):
        solids.append(box((x, y, ROOM / 2), (a, b, ROOM), "wall", colour=wall))
    solids += _door(width, random)
    for _ in range(random.integers(1, 4)):
        at = random.uniform((1.2, 1.2), (width - 1.2, depth - 1.2))
        solids += _table(at, random.uniform(0, np.pi), random)
    for _ in range(random.integers(1, 4)):
        high, along = random.uniform(0.9, 2.1), random.uniform(0.6, 1.6)
        place = (random.uniform(0.8, width - 0.8), depth - 0.2, high / 2)
        solids.append(box(place, (along, 0.4, high), "shelf", colour=_shade(WOOD, random)))
    for _ in range(random.integers(0, 3)):
        at = random.uniform((0.5, 0.5), (width - 0.5, depth - 0.8))
        solids.append(prism((*at, 0), 0.18, 0.35, "clutter", colour=_shade(CLOTH, random)))
        solids.append(ball((*at, 0.75), (0.6, 0.6, 0.8), "clutter", free=0.15, colour=(60, 110, 50)))
    return solids


def street(random: Random) -> list[Solid]:
    """A street along x between rows of houses, with what stands in it; the origin is on its axis."""
    road, walk = random.uniform(6, 9), random.uniform(2, 4)
    solids = [
        box((0, 0, -0.5), (2 * HALF, road, 1), "road", shine=0.2, colour=ASPHALT),
        box((0, 0, -0.6), (2 * HALF, 6 * HALF, 0.9), "terrain", shine=0.4, colour=GRASS),
    ]
    for side in (-1, 1):
        edge = side * road / 2
        solids.append(
            box(
                (0, edge + side * walk / 2, -0.4),
                (2 * HALF, walk, 1.1),
                "sidewalk",
                shine=0.35,
                colour=PAVING,
            )
        )
        solids += _row_of_houses(edge + side * walk, side, random)
        for x in np.arange(-HALF, HALF, 12.0) + random.uniform(0, 6):
            at = (x + random.uniform(-2, 2), edge + side * 0.6, 0.1)
            solids += _tree(at, random) if random.random() < 0.6 else _lamp(at, random)
        for _ in range(random.integers(2, 7)):
            solids += _car((random.uniform(-HALF, HALF), edge - side * 1.2, 0), 0.0, random)
        for _ in range(random.integers(1, 5)):
            hedge = (random.uniform(-30, 30), edge + side * (walk + 0.5), random.uniform(0.5, 0.9))
            size = (random.uniform(3, 9), 0.8, 2 * hedge[2])
            solids.append(box(hedge, size, free=random.uniform(0.1, 0.4), **LEAVES))
        for _ in range(random.integers(0, 5)):
            at = (random.uniform(-25, 25), edge + side * random.uniform(0.5, walk), 0.1)
            solids += _person(at, random)
    return solids


def town(random: Random) -> list[Solid]:
    """Houses, trees and cars on a square of ground that is not quite level."""
    tilt = random.uniform(-0.03, 0.03, 2)
    normal = np.array([*tilt, 1]) / np.linalg.norm([*tilt, 1])
    ground = box((0, 0, -2), (4 * HALF, 4 * HALF, 4), "ground", shine=0.4, colour=GRASS)
    normals, limits = ground.normals.copy(), ground.limits.copy()
    top = int(normals[:, 2].argmax())
    normals[top], limits[top] = normal, 0.0
    solids = [Solid(normals, limits, ground.centre, 1.1 * ground.radius, "ground", 0.4, GRASS)]
    turn = random.uniform(0, np.pi)
    c, s = np.cos(turn), np.sin(turn)

    def at(x: float, y: float) -> tuple[float, float, float]:
        x, y = c * x - s * y, s * x + c * y
        return x, y, float(-(tilt[0] * x + tilt[1] * y))

    water = random.uniform(-HALF, HALF, 2)
    if random.random() < 0.6:
        x, y, z = at(*water)
        solids.append(
            prism((x, y, z - 0.5), random.uniform(6, 14), 0.6, "water", shine=0.08, colour=(50, 70, 90))
        )
    for x in np.arange(-HALF, HALF, 16.0):
        for y in np.arange(-HALF, HALF, 18.0):
            size = (random.uniform(8, 13), random.uniform(6, 10), random.uniform(2.8, 8))
            place = at(x + random.uniform(-1.5, 1.5), y + random.uniform(-1.5, 1.5))
            if random.random() < 0.7:
                solids.append(_house(place, size, turn, random))
            for _ in range(random.integers(0, 4)):
                solids += _tree(at(x + 8 + random.uniform(-1, 1), y + random.uniform(-8, 8)), random)
            if random.random() < 0.4:
                solids += _car(at(x + random.uniform(-4, 4), y + 8.5), turn, random)
    return solids


def _house(
    at: tuple[float, float, float], size: tuple[float, float, float], turn: float, random: Random
) -> Solid:
    low = (at[0], at[1], at[2] - 1)
    high = (size[0], size[1], size[2] + 1)
    if random.random() < 0.7:
        return gable(low, high, random.uniform(0.4, 0.8), "building", turn, colour=_shade(BRICK, random))
    middle = (low[0], low[1], low[2] + high[2] / 2)
    return box(middle, high, "building", turn, colour=_shade(PAVING, random))


def _row_of_houses(edge: float, side: int, random: Random) -> list[Solid]:
    solids, x = [], -HALF
    while x < HALF:
        along, high, deep = random.uniform(8, 16), random.uniform(5, 14), random.uniform(6, 10)
        if random.random() < 0.8:
            y = edge + side * (deep / 2 + random.uniform(0, 3))
            place, size, shine = (x + along / 2, y, high / 2), (along, deep, high), random.uniform(0.3, 0.7)
            solids.append(box(place, size, "building", shine=shine, colour=_shade(BRICK, random)))
        else:
            at = (x + along / 2, edge + side * 3, 0.0)
            solids += _tree(at, random)
        x += along + random.choice([0.0, 4.0])
    return solids


def _tree(at: tuple[float, float, float], random: Random) -> list[Solid]:
    high, crown = random.uniform(1.8, 3.5), random.uniform(2.5, 6)
    trunk = prism(at, random.uniform(0.1, 0.25), high + crown / 3, "trunk", 6, shine=0.3, colour=(90, 70, 55))
    centre = (at[0], at[1], at[2] + high + crown / 2)
    leaves = ball(centre, (crown * 0.9, crown * 0.9, crown), free=random.uniform(0.6, 1.6), **LEAVES)
    return [trunk, leaves]


def _lamp(at: tuple[float, float, float], random: Random) -> list[Solid]:
    return [prism(at, random.uniform(0.06, 0.12), random.uniform(3, 7), "pole", 6, shine=0.6)]


def _car(at: tuple[float, float, float], turn: float, random: Random) -> list[Solid]:
    colour = _shade((120, 120, 130), random, 80)
    body, cabin = (4.3, 1.8, 0.75), (2.3, 1.6, 0.65)
    return [
        box((at[0], at[1], at[2] + 0.65), body, "car", turn, shine=0.7, colour=colour),
        box((at[0], at[1], at[2] + 1.3), cabin, "car", turn, shine=0.3, colour=colour),
    ]


def _person(at: tuple[float, float, float], random: Random) -> list[Solid]:
    high = random.uniform(1.5, 1.9)
    return [
        prism(at, 0.2, high - 0.25, "person", 6, shine=0.4, colour=_shade(CLOTH, random)),
        ball(
            (at[0], at[1], at[2] + high - 0.12),
            (0.24, 0.24, 0.26),
            "person",
            shine=0.4,
            colour=(200, 160, 140),
        ),
    ]


def _table(at: np.ndarray, turn: float, random: Random) -> list[Solid]:
    size, colour = (random.uniform(1.0, 1.8), random.uniform(0.6, 0.9)), _shade(WOOD, random)
    c, s = np.cos(turn), np.sin(turn)

    def place(x: float, y: float, z: float) -> tuple[float, float, float]:
        return float(at[0] + c * x - s * y), float(at[1] + s * x + c * y), z

    solids = [box(place(0, 0, 0.72), (*size, 0.04), "table", turn, colour=colour)]
    for a in (-1, 1):
        for b in (-1, 1):
            leg = place(a * (size[0] / 2 - 0.05), b * (size[1] / 2 - 0.05), 0.35)
            solids.append(box(leg, (0.05, 0.05, 0.7), "table", turn, colour=colour))
    for side in (-1, 1):
        if random.random() < 0.8:
            solids += _chair(
                place(random.uniform(-0.3, 0.3), side * (size[1] / 2 + 0.3), 0), turn, side, random
            )
    return solids


def _chair(at: tuple[float, float, float], turn: float, side: int, random: Random) -> list[Solid]:
    c, s, colour = np.cos(turn), np.sin(turn), _shade(CLOTH, random)
    back = (at[0] - s * side * 0.2, at[1] + c * side * 0.2, 0.7)
    return [
        box((at[0], at[1], 0.44), (0.42, 0.42, 0.05), "chair", turn, colour=colour),
        box(back, (0.42, 0.04, 0.5), "chair", turn, colour=colour),
        prism((at[0], at[1], 0), 0.04, 0.42, "chair", 6, colour=(60, 60, 60)),
    ]


def _door(width: float, random: Random) -> list[Solid]:
    x = random.uniform(0.8, width - 0.8)
    return [box((x, 0.02, 1.0), (0.9, 0.05, 2.0), "door", colour=_shade(WOOD, random))]


def _shade(colour: tuple[int, int, int], random: Random, by: float = 25) -> tuple[int, int, int]:
    shift = random.normal(0, by / 2) + random.normal(0, by / 4, 3)
    r, g, b = np.clip(np.array(colour) + shift, 0, 255).astype(int)
    return int(r), int(g), int(b)
