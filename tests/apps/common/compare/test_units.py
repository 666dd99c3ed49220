"""Means of test units against those of pandas."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from apps.common.compare.units import unit_means


@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(0, 6), st.floats(0.1, 3)), min_size=1), st.booleans())
def test_units_are_weighted_means_and_empty_ones_weigh_nothing(rows, weighted):
    frame = pd.DataFrame(rows, columns=["value", "unit", "weight"])
    if not weighted:
        frame["weight"] = 1.0
    weights = frame["weight"].to_numpy() if weighted else None
    means, sizes = unit_means(frame["value"].to_numpy(), frame["unit"].to_numpy(), 9, weights)
    assert len(means) == len(sizes) == 9
    for unit in range(9):
        own = frame[frame["unit"] == unit]
        assert np.isclose(sizes[unit], own["weight"].sum())
        expected = np.average(own["value"], weights=own["weight"]) if len(own) else 0.0
        assert np.isclose(means[unit], expected)
