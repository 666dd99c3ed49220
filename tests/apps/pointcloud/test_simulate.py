"""Simulated scans: each sensor gives what such a sensor gives."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from apps.pointcloud.scenes import room
from apps.pointcloud.sensors import FIELD, PIXELS, VIEWS, depth_camera
from apps.pointcloud.simulate import KINDS, simulate
from apps.pointcloud.solids import Solid


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_number_is_a_scan_and_another_number_is_another(kind: str) -> None:
    one, again, other = simulate(kind, 3), simulate(kind, 3), simulate(kind, 4)
    assert np.array_equal(one.xyz, again.xyz)
    assert np.array_equal(one.label, again.label)
    assert len(one) != len(other)
    assert len(simulate(kind, 3, seed=1)) != len(one)
    assert 10_000 < len(one) < 40_000


@pytest.mark.parametrize("kind", list(KINDS))
def test_all_classes_come_up(kind: str) -> None:
    found: set[int] = set()
    for number in range(8):
        label = simulate(kind, number).label
        assert label is not None
        found |= set(label.tolist())
    assert found == set(range(len(KINDS[kind].classes)))


def test_sensors_tell_what_such_sensors_tell() -> None:
    camera, lidar, plane = (simulate(kind, 0) for kind in KINDS)
    assert set(camera.told()) == {"xyz", "colour", "label"}
    assert set(lidar.told()) == {"xyz", "intensity", "label"}
    assert set(plane.told()) == {"xyz", "intensity", "echo", "label"}
    assert len(camera) <= VIEWS * PIXELS[0] * PIXELS[1]
    assert plane.echo is not None
    number, many = plane.echo.T
    assert (number <= many).all()
    assert number.min() == 1
    leaves = plane.label == KINDS["towns"].classes.index("vegetation")
    assert (number[~leaves] > 1).mean() < (number[leaves] > 1).mean()  # behind leaves there is more


def test_a_street_thins_out_with_distance_and_a_town_does_not() -> None:
    for kind, ratio in (("streets", 4.0), ("towns", 1.5)):
        cloud = simulate(kind, 0)
        flat = cloud.where()[:, :2]
        spacing = cKDTree(cloud.xyz).query(cloud.xyz, k=2)[0][:, 1]
        far = np.linalg.norm(flat, axis=1)
        near, edge = np.median(spacing[far < 10]), np.median(spacing[far > 30])
        assert (edge > ratio * near) == (kind == "streets")


def test_a_depth_camera_sees_walls_where_they_are() -> None:
    solids = room(np.random.default_rng(5))
    cloud = depth_camera(solids, KINDS["rooms"].classes, np.random.default_rng(6))
    xyz, label = cloud.where(), cloud.label
    floor = xyz[label == 0]
    assert abs(float(np.median(floor[:, 2]))) < 0.01
    assert floor[:, 2].std() < 0.06
    assert max(FIELD) < np.pi / 2


def test_labels_are_those_of_the_solids() -> None:
    names = {kind: {solid.kind for seed in range(6) for solid in _scene(kind, seed)} for kind in KINDS}
    assert all(found == set(KINDS[kind].classes) for kind, found in names.items())


def _scene(kind: str, seed: int) -> list[Solid]:
    return KINDS[kind].scene(np.random.default_rng(seed))
