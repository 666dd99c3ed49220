"""Users' files: formats that hold the same, other bins, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from apps.common.errors import UserError
from apps.lidar.files import Cube, read_cube, rebinned
from apps.lidar.instrument import Clock
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import histograms
from tests.apps.lidar.test_simulate import seeded


def test_files_of_every_format_hold_the_same(tmp_path: Path) -> None:
    import h5py

    counts = np.random.default_rng(0).poisson(3, (4, 16)).astype(float)
    np.savez(tmp_path / "a.npz", counts=counts)
    pd.DataFrame(counts).to_csv(tmp_path / "a.csv", index=False)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["counts"] = counts
    for name in ("a.npz", "a.csv", "a.h5"):
        cube = read_cube(tmp_path / name)
        parts = list(cube.rows(cube.parts(3)))
        np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), counts)
        assert [rows.start for rows, _ in parts] == [0, 3]


@pytest.mark.parametrize("shape", [(7,), (3, 5), (1, 23), (23, 1), (2, 3, 4), (300, 300), (2, 9000)])
@pytest.mark.parametrize("most", [1, 4, 8192])
def test_parts_hold_every_pixel_once_and_no_more_than_they_may(shape: tuple[int, ...], most: int) -> None:
    if np.prod(shape) > 1000 and most < 8192:
        most = 1000
    counts = np.arange(np.prod(shape) * 2).reshape(*shape, 2)
    cube = Cube(counts, "here")
    parts = cube.parts(most)
    told = list(cube.rows(parts))
    assert len(told) == len(parts)
    assert max(len(some) for _, some in told) <= most
    np.testing.assert_array_equal(np.concatenate([some for _, some in told]), counts.reshape(-1, 2))
    flat = counts.reshape(-1, 2)
    assert all(np.array_equal(flat[rows], some) for rows, some in told)


@pytest.mark.parametrize(
    ("first", "rows"),
    [
        ("a,b,c,d", 2),
        ("0,1,2,3", 2),
        ("1,2,3,4", 2),
        ("0.016,0.048,0.080,0.112", 2),
        ("0.033,0.067,0.1,0.133", 2),  # rounded
        ("5,9,2,0", 3),
        ("0,0,0,0", 3),
        ("0,32,63,95", 2),
        ("1,nan,4,0", 3),
        (",2,4,1", 3),
    ],
)
def test_a_first_line_of_names_or_times_is_no_histogram(first: str, rows: int, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{first}\n4,3,2,1\n1,0,0,0\n")
    assert read_cube(tmp_path / "a.csv").shape == (rows,)


def test_other_bins_are_laid_on_the_clock() -> None:
    """Twice as many bins of half the width, flashed half a nanosecond later, hold the same light."""
    clock, fine = Clock(64, 0.1, 1.0), Clock(160, 0.05, 1.5)
    scenes = Ranges().draw(6, seeded())
    counts = histograms(scenes, Rig(fine), seeded(1))
    found = rebinned(counts, fine.width, fine.flash, clock)
    pairs = counts[:, 10:138].reshape(6, 64, 2).sum(2)
    torch.testing.assert_close(found, pairs)
    assert rebinned(found, clock.width, clock.flash, clock) is found


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"counts": np.array([["a", "b"]])}, "real numbers"),
        ({"counts": np.ones((2, 3), dtype=complex)}, "real numbers"),
        ({"counts": np.ones((2, 3)), "bin_width": np.ones(3)}, "bin_width"),
        ({"counts": np.ones((2, 3)), "bin_width": np.nan}, "bin_width"),
        ({"counts": np.ones((2, 3)), "scattering": np.ones(3), "absorption": np.ones(2)}, "scattering"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(arrays: dict[str, Any], word: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=word) as told:
        read_cube(tmp_path / "a.npz")
    assert "a.npz" in str(told.value)


def test_the_first_line_of_a_table_may_be_a_row(tmp_path: Path) -> None:
    counts = np.random.default_rng(1).poisson(3, (4, 16)).astype(float)
    named = pd.DataFrame(counts)
    for name, header in (("names", [f"t{i}" for i in range(16)]), ("numbers", True), ("none", False)):
        named.to_csv(tmp_path / f"{name}.csv", index=False, header=header)
        np.testing.assert_array_equal(read_cube(tmp_path / f"{name}.csv").counts, counts)
    named.to_csv(tmp_path / "index.csv")
    with pytest.raises(UserError, match="as of an index"):
        read_cube(tmp_path / "index.csv")
