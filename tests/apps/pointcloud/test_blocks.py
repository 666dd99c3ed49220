"""Scans on disk, gone through block by block: every point once, and those around it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.common.errors import UserError
from apps.pointcloud.blocks import Blocks, Store, rectangles
from tests.core.blocks import examples

RANDOM = np.random.default_rng(0)


def store(folder: Path, xyz: np.ndarray, size: int = 700) -> Store:
    light = np.arange(len(xyz)) % 50
    pieces = [
        {"xyz": xyz[i : i + size], "intensity": light[i : i + size], "code": light[i : i + size]}
        for i in range(0, len(xyz), size)
    ]
    return Store(folder, pieces, "scan.las")


@examples(20)
@given(seed=st.integers(0, 2**16), size=st.integers(1, 60))
def test_rectangles_hold_every_point_once(seed: int, size: int) -> None:
    counts = np.random.default_rng(seed).poisson(1.0, (9, 5))
    covered = np.zeros_like(counts)
    for x, y in rectangles(counts, size):
        covered[x, y] += 1
        assert counts[x, y].sum() <= size or counts[x, y].size == 1
    assert (covered[counts > 0] == 1).all()
    assert covered.max() <= 1


@pytest.mark.parametrize("size", [100, 900, 10_000])
def test_blocks_hold_every_point_once_and_those_around_them(size: int, tmp_path: Path) -> None:
    xyz = np.concatenate([RANDOM.normal(0, 30, (3000, 3)), RANDOM.normal(200, 4, (2000, 3))])
    xyz += np.array([1e6, 2e6, 0])
    kept = store(tmp_path, xyz)
    assert kept.points == 5000
    blocks = Blocks(kept, tmp_path, size)
    rows = np.concatenate([blocks.rows(number) for number in range(len(blocks))])
    assert np.array_equal(np.sort(rows), np.arange(5000))
    for number in range(0, len(blocks), 5):
        block = blocks.block(number, 7.0)
        assert np.array_equal(block.around[: len(block.rows)], block.rows)
        flat = xyz[:, :2]
        low, high = blocks.ends(number, 7.0)
        assert (flat[block.rows] >= low + 7 - 1e-6).all()
        assert (flat[block.rows] <= high - 7 + 1e-6).all()
        wanted = np.flatnonzero(((flat >= low) & (flat <= high)).all(1))
        assert np.array_equal(np.sort(block.around), wanted)


def test_points_far_off_do_not_make_blocks_larger(tmp_path: Path) -> None:
    xyz = RANDOM.uniform(0, 50, (5000, 3)) + np.array([654_000, 6_861_000, 0])
    xyz[77] = 0
    kept = store(tmp_path, xyz)
    blocks = Blocks(kept, tmp_path, 400)
    assert blocks.sizes.max() <= 400
    assert blocks.sizes.sum() == 5000
    near = np.flatnonzero((np.abs(xyz[:, :2] - xyz[4, :2]) < 5).all(1))
    number = next(n for n in range(len(blocks)) if 4 in blocks.rows(n))
    assert set(near) <= set(blocks.block(number, 5.0).around)


def test_a_piece_that_looks_like_degrees_is_of_a_scan_that_does_not(tmp_path: Path) -> None:
    wall = np.array([[1.0, 2.0, 0.0], [1.01, 2.0, 2.4]])
    kept = store(tmp_path, np.concatenate([RANDOM.uniform(0, 9, (700, 3)), wall]))
    assert kept.points == 702
    assert len(kept.cloud(np.array([700, 701]))) == 2


def test_what_is_kept_is_what_was_given(tmp_path: Path) -> None:
    xyz = RANDOM.uniform(0, 9, (1500, 3)) + np.array([654_000, 6_861_000, 0])
    kept = store(tmp_path, xyz)
    rows = RANDOM.permutation(1500)[:200]
    assert np.array_equal(kept.where(rows), xyz[rows])
    cloud = kept.cloud(rows)
    assert np.abs(cloud.where() - xyz[rows]).max() < 1e-4
    assert cloud.intensity is not None
    assert np.allclose(cloud.intensity, np.minimum((rows % 50) / 49, 1), atol=1e-6)
    assert cloud.label is None


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        ([], "holds no points"),
        ([{"xyz": np.zeros((0, 3))}], "holds no points"),
        ([{"xyz": np.ones((3, 3))}, {"xyz": np.full((2, 3), np.nan)}], "are no numbers"),
        (
            [{"xyz": np.ones((3, 3))}, {"xyz": np.ones((3, 3)), "intensity": np.ones(3)}],
            "points 3 and on say other",
        ),
        (
            [{"xyz": np.array([[4.1, 52.1, 0]] * 200)}, {"xyz": np.array([[4.101, 52.1, 30.0]] * 200)}],
            "longitude and latitude",
        ),
    ],
)
def test_what_is_no_scan_is_one_sentence(
    pieces: list[dict[str, np.ndarray]], fault: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=fault):
        Store(tmp_path, pieces, "scan.las")
