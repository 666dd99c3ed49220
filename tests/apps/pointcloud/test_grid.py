"""Points on a grid: density, cells, shapes and heights, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.pointcloud.grid import cells, height, shapes, side_of, thin

RANDOM = np.random.default_rng(0)
LATTICE = np.stack(np.meshgrid(*[np.arange(12.0)] * 3), -1).reshape(-1, 3)


@pytest.mark.parametrize("step", [0.02, 0.5, 3.0])
def test_a_cell_is_one_and_a_half_times_the_distance_of_neighbours(step: float) -> None:
    assert side_of(step * LATTICE) == pytest.approx(1.5 * step)


def test_density_is_that_of_where_points_are_sparse() -> None:
    dense, sparse = 0.01 * LATTICE[:1200], 10 + LATTICE[:800]
    assert side_of(np.concatenate([dense, sparse])) == pytest.approx(1.5)
    assert side_of(np.concatenate([dense, sparse[:100]])) == pytest.approx(0.015)


def test_points_in_one_place_have_some_side() -> None:
    assert side_of(np.zeros((5, 3))) == 1.0


@given(seed=st.integers(0, 2**16), side=st.sampled_from([0.1, 0.3, 2.0]))
def test_one_point_of_each_cell_is_kept_and_all_know_theirs(seed: int, side: float) -> None:
    random = np.random.default_rng(seed)
    cell = cells(random.normal(size=(80, 3)), side)
    for drawn in (None, random):
        rows, of_point = thin(cell, drawn)
        assert len({tuple(c) for c in cell[rows]}) == len(rows) == len({tuple(c) for c in cell})
        assert np.array_equal(cell[rows][of_point], cell)


def test_shapes_by_hand() -> None:
    t, u = RANDOM.uniform(-1, 1, (2, 300))
    line = np.stack([t, 0 * t, 0 * t], 1)
    floor, wall = np.stack([t, u, 0 * t], 1), np.stack([t, 0 * t, u], 1)
    blob = RANDOM.normal(size=(300, 3))
    for points, wanted in ((line, (1, 0, 0)), (floor, (0, 1, 0)), (wall, (0, 1, 0))):
        found = shapes(points, [60])
        assert np.abs(np.median(found[:, :3], 0) - wanted).max() < 0.25
        assert np.allclose(found[:, :3].sum(1), 1, atol=1e-5)
    assert np.median(shapes(blob, [60])[:, 2]) > 0.4
    assert shapes(floor, [60])[:, 3].max() < 1e-4
    assert shapes(wall, [60])[:, 3].min() > 1 - 1e-4


def test_few_points_have_a_shape_too() -> None:
    assert np.isfinite(shapes(RANDOM.normal(size=(2, 3)), [16])).all()
    assert shapes(np.zeros((1, 3)), [16]).shape == (1, 4)


def test_a_stray_point_below_the_ground_moves_no_height() -> None:
    flat = np.concatenate([RANDOM.uniform(0, 100, (20_000, 2)), RANDOM.normal(0, 0.02, (20_000, 1))], 1)
    before = height(flat, 0.5)
    after = height(np.concatenate([flat, [[50, 50, -40]]]), 0.5)
    assert np.abs(after[:-1] - before).max() < 0.05
    assert after[-1] == 0


def test_height_is_above_the_lowest_nearby() -> None:
    x, y = RANDOM.uniform(0, 300, (2, 6000))
    ground = np.stack([x, y, 0.05 * x], 1)
    roof = ground[::7] + np.array([0, 0, 6.0])
    found = height(np.concatenate([ground, roof]), 0.5)
    assert found.min() >= 0
    assert found[: len(ground)].max() < 0.05 * 48 + 1e-3  # of up to three squares of 16 m the lowest
    assert np.median(found[len(ground) :]) > 6
