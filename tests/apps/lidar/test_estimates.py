"""Parts of the histograms, and what is told of them."""

import numpy as np
import pytest

from apps.lidar.estimates import edges
from apps.lidar.evaluate import of_output
from apps.lidar.scenes import Ranges


def test_a_table_of_one_output_has_short_names() -> None:
    rows = [{"slice": "all", "nrmse_depth": 1, "nrmse_depth_mean": 2, "rank_lifetime": 3, "rank_depth": 4}]
    assert of_output(rows, "depth") == [{"slice": "all", "nrmse": 1, "nrmse_mean": 2, "rank": 4}]
    assert of_output(rows, "lifetime") == [{"slice": "all", "rank": 3}]


def test_parts_of_a_range_are_of_equal_width() -> None:
    assert edges("depth", Ranges()).tolist() == pytest.approx([1, 4, 7, 10])
    ends = edges("photons", Ranges())
    np.testing.assert_allclose(ends[1:] / ends[:-1], np.full(4, 100**0.25))
