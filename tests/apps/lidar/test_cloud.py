"""A cloud holds a point for each pixel that has a depth."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from apps.lidar.cloud import write_cloud


def test_points_stand_where_their_pixels_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for open3d, which few machines have: what it is asked to write."""
    written: dict[str, Any] = {}

    def write(path: str, points: SimpleNamespace) -> bool:
        written.update(vars(points))
        Path(path).write_text("ply")
        return True

    geometry, utility = SimpleNamespace(PointCloud=SimpleNamespace), SimpleNamespace(Vector3dVector=np.array)
    stand_in = SimpleNamespace(
        geometry=geometry, utility=utility, io=SimpleNamespace(write_point_cloud=write)
    )
    monkeypatch.setitem(sys.modules, "open3d", stand_in)
    depth = np.array([[1.0, np.nan], [3.0, 4.0]])
    error = np.array([[0.1, np.nan], [0.5, 0.3]])
    write_cloud(tmp_path / "c.ply", depth, error, pitch=0.5)
    assert (tmp_path / "c.ply").read_text() == "ply"
    assert list(tmp_path.iterdir()) == [tmp_path / "c.ply"]
    np.testing.assert_allclose(written["points"], [[0, 0, -1], [0, -0.5, -3], [0.5, -0.5, -4]])
    green = np.asarray(written["colors"])[:, 1]
    assert green[0] < green[2] < green[1]
