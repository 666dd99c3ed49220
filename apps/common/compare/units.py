"""Test units: what intervals resample, means over parts of the test data that are drawn apart."""

import numpy as np


def unit_means(
    values: np.ndarray, unit: np.ndarray, count: int = 0, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the values (N,) of each unit, and what it weighs, both (U,); an empty unit has mean 0.

    Args:
        values: (N,).
        unit: (N,) the number of each value's unit, from 0.
        count: U at the least.
        weights: (N,) of the values; 1 by default.
    """
    weights = np.ones(len(values)) if weights is None else weights
    sizes = np.bincount(unit, weights, minlength=count)
    sums = np.bincount(unit, weights * values, minlength=count)
    return np.divide(sums, sizes, out=np.zeros_like(sizes), where=sizes > 0), sizes
