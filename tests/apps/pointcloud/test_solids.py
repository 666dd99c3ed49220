"""Rays meet solids where steps along them do; leaves let light through as far as they should."""

from collections.abc import Callable

import numpy as np
import pytest

from apps.pointcloud.solids import Solid, ball, box, cast, crossings, gable, prism

MADE: dict[str, Callable[[], Solid]] = {
    "box": lambda: box((1, -2, 0.5), (3, 2, 1), "a", 0.4),
    "column": lambda: prism((0.5, 0, -1), 0.8, 2.5, "a", 6),
    "house": lambda: gable((0, 1, 0), (4, 3, 2), 0.7, "a", 0.3),
    "crown": lambda: ball((1, 1, 0), (2, 3, 1.5), "a"),
}


def rays(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    start = random.normal(size=(number, 3)) * 4
    way = random.uniform(-1.5, 1.5, (number, 3)) - start
    return start, way / np.linalg.norm(way, axis=1, keepdims=True)


@pytest.mark.parametrize("name", list(MADE))
def test_rays_enter_and_leave_where_steps_along_them_do(name: str) -> None:
    solid, (start, way) = MADE[name](), rays(200)
    steps = np.linspace(0, 14, 4001)
    along = start[:, None] + steps[:, None] * way[:, None]
    inside = (along @ solid.normals.T <= solid.limits + 1e-12).all(2)
    enter, leave, _ = crossings(start, way, solid)
    hit = (leave > enter) & (leave > 0)
    long = np.where(hit, leave - np.maximum(enter, 0), 0) > steps[1]
    assert inside.any(1)[long].all()
    assert not inside.any(1)[~hit].any()
    first = steps[inside.argmax(1)]
    assert np.abs(first - np.maximum(enter, 0))[long].max() <= steps[1]
    assert 20 < long.sum() < 180


@pytest.mark.parametrize("name", list(MADE))
def test_a_solid_lies_in_its_ball_and_its_planes_look_outwards(name: str) -> None:
    solid, random = MADE[name](), np.random.default_rng(1)
    points = solid.centre + random.uniform(-6, 6, (20_000, 3))
    inside = (points @ solid.normals.T <= solid.limits).all(1)
    assert inside.sum() > 50
    assert (np.linalg.norm(points[inside] - solid.centre, axis=1) <= solid.radius).all()
    assert np.allclose(np.linalg.norm(solid.normals, axis=1), 1)


def test_the_nearest_of_several_is_met_and_its_slope_told() -> None:
    solids = [
        box((0, 0, 3), (2, 2, 2), "far"),
        box((0, 0, -3), (9, 9, 1), "near"),
        box((5, 5, 5), (1, 1, 1), "off"),
    ]
    start = np.array([[0, 0, 9.0], [0, 0, -9.0], [4, 0, 9.0], [7, 7, 9.0]])
    way = np.array([[0, 0, -1.0], [0, 0, 1.0], [0, -0.6, -0.8], [0, 0, -1.0]])
    hits = cast(start, way, solids, np.random.default_rng(0))
    assert hits.solid.tolist() == [0, 1, -1, -1]
    assert hits.distance[:2].tolist() == [5.0, 5.5]
    assert np.isinf(hits.distance[2:]).all()
    slope = cast(np.array([[0, 1.5, 6.0]]), np.array([[0, -0.6, -0.8]]), solids, np.random.default_rng(0))
    assert slope.cosine[0] == pytest.approx(0.8)


def test_light_goes_as_far_into_leaves_as_it_should() -> None:
    """Through a slab of leaves exp(-depth / free) of the light passes, and the rest stops at such depths."""
    slab, ground = box((0, 0, 1), (50, 50, 2), "leaves", free=1.5), box((0, 0, -1), (99, 99, 1), "ground")
    start, way = np.tile([0.0, 0, 9], (20_000, 1)), np.tile([0.0, 0, -1], (20_000, 1))
    hits = cast(start, way, [slab, ground], np.random.default_rng(0))
    passed = hits.solid == 1
    assert passed.mean() == pytest.approx(np.exp(-2 / 1.5), abs=0.01)
    depth = hits.distance[~passed] - 7
    assert depth.min() >= 0
    assert depth.max() <= 2
    share = 1 - np.exp(-1 / 1.5)
    assert (depth < 1).mean() == pytest.approx(share / (1 - np.exp(-2 / 1.5)), abs=0.01)
    assert (hits.cosine[~passed] == 1).all()
