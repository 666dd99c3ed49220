"""Labelling large files: the files that are labelled, and how it is told."""

from pathlib import Path

import numpy as np

from apps.pointcloud.files import pieces
from apps.pointcloud.simulate import simulate
from benchmarks.large_scans import EDGE, PAGE, write_towns


def test_the_page_shows_what_the_file_holds() -> None:
    assert PAGE.path.read_text(encoding="utf-8") == PAGE.fresh()


def test_towns_stand_side_by_side_with_what_their_sensor_says(tmp_path: Path) -> None:
    first, second = simulate("towns", 0), simulate("towns", 1)
    write_towns(tmp_path / "some.laz", len(first) + 500)
    [piece] = pieces(tmp_path / "some.laz")
    assert len(piece["xyz"]) == len(first) + 500
    assert np.allclose(piece["xyz"][: len(first)], first.xyz, atol=1e-3)
    assert np.allclose(piece["xyz"][len(first) :], second.xyz[:500] + np.array([0, EDGE, 0]), atol=1e-3)
    assert np.array_equal(piece["echo"][: len(first)], first.echo)
    assert np.corrcoef(piece["intensity"][: len(first)], first.intensity)[0, 1] > 0.999
