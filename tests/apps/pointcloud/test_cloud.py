"""Clouds of any coordinates, and what is no cloud."""

import numpy as np
import pytest

from apps.common.errors import UserError
from apps.pointcloud.cloud import cloud_of, refuse_degrees


def test_national_grids_keep_their_millimetres() -> None:
    xyz = np.array([[654_321.123, 6_861_234.567, 35.25], [654_322.124, 6_861_234.568, 36.5]])
    cloud = cloud_of(xyz, "a scan")
    assert cloud.xyz.dtype == np.float32
    assert np.abs(cloud.where() - xyz).max() < 1e-4
    assert np.abs(xyz.astype(np.float32) - xyz).max() > 0.01  # what would be lost


def test_some_points_keep_all_that_is_told_of_them() -> None:
    xyz = np.random.default_rng(0).random((6, 3))
    cloud = cloud_of(xyz, "a scan", {"intensity": np.arange(6.0), "colour": None})
    some = cloud.take(np.array([4, 1]))
    assert some.intensity is not None
    assert some.intensity.tolist() == [4, 1]
    assert some.colour is None
    assert np.allclose(some.where(), xyz[[4, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("xyz", "fault"),
    [
        (np.zeros((0, 3)), "holds no points"),
        (np.zeros((4, 2)), r"is an array of \[4, 2\]"),
        (
            np.array([[0, 0, 0], [1, np.nan, 0], [np.inf, 0, 0]]),
            "of 2 of 3 points are no numbers, the first of point 1",
        ),
    ],
)
def test_what_is_no_cloud_is_one_sentence(xyz: np.ndarray, fault: str) -> None:
    with pytest.raises(UserError, match=fault) as caught:
        cloud_of(xyz, "scan.las")
    assert "scan.las" in str(caught.value)


@pytest.mark.parametrize(
    "xyz",
    [
        np.array([[0, 0, 0], [0.3, 0.2, 5.0]]),  # a post
        np.array([[4.3, 52.0, 0], [9.3, 57.0, 30.0]]),  # a house
        np.array([[300.1, 52.0, 0], [300.2, 52.1, 30.0]]),  # no longitude
    ],
)
def test_metres_are_not_taken_for_degrees(xyz: np.ndarray) -> None:
    refuse_degrees(xyz.min(0), xyz.max(0), 1000, "a scan")


@pytest.mark.parametrize(("width", "relief", "points"), [(0.0012, 35.2, 5000), (0.027, 2.5, 10**6)])
def test_degrees_are_refused(width: float, relief: float, points: int) -> None:
    low = np.array([4.3517, 52.0116, -1.2])
    with pytest.raises(UserError, match=rf"a scan is {width:.2g} wide .* longitude and latitude"):
        refuse_degrees(low, low + np.array([width, 0.8 * width, relief]), points, "a scan")


def test_values_of_other_numbers_of_points_are_refused() -> None:
    with pytest.raises(UserError, match="5 values of intensity for 4 points"):
        cloud_of(np.ones((4, 3)), "a scan", {"intensity": np.zeros(5)})
