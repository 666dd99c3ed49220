"""Errors and quality, by hand."""

import numpy as np
import pytest

from apps.lidar.metrics import excess_area, rank_correlation, risk_by_coverage


def test_risk_by_hand() -> None:
    error, quality = np.array([1.0, -3.0, 2.0]), np.array([0.9, 0.1, 0.5])
    np.testing.assert_allclose(risk_by_coverage(error, quality), [1, np.sqrt(5 / 2), np.sqrt(14 / 3)])
    assert excess_area(error, quality) == pytest.approx(0)
    assert excess_area(error, -quality) > 1
    assert rank_correlation(quality, error) == pytest.approx(1)
