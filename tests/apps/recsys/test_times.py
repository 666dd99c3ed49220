"""Moments of a log: their order is that of time, however they are written."""

import numpy as np
import pandas as pd
import pytest

from apps.common.errors import UserError
from apps.recsys.impressions import parts_of
from apps.recsys.times import moment, moments

DATES = ["2023-12-31", "2024-01-01 09:00", "2024-01-01T10:30:00", "2024-02-01"]


def column(*cells: object) -> pd.Series:  # type: ignore[type-arg]
    return pd.Series(list(cells), name="when")


@pytest.mark.parametrize(
    "cells", [[9, 10, 200], ["9", "10", "200"], DATES, [pd.Timestamp(d) for d in DATES[1:]]]
)
def test_order_is_that_of_time(cells: list[object]) -> None:
    found = moments(column(*cells), "log")
    assert (np.diff(found) > 0).all()
    backwards = moments(column(*cells[::-1]), "log")
    assert np.array_equal(backwards, found[::-1])


def test_places_on_one_scale() -> None:
    dates = moments(column(*DATES), "log")
    assert dates[1] < moment("2024-01-01 09:30", dates, "log") < dates[2]
    assert moment("15", moments(column(1.5, 2), "log"), "log") == 15


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ([5, None, 3], "when is blank in row 2"),
        (["1/9/2022", "2/9/2022"], "when is '1/9/2022' in row 1: write all times as numbers, or as dates"),
        ([9, "x", 10], "when is 'x' in row 2"),
        ([*DATES, "soon"], "when is 'soon' in row 5"),
    ],
)
def test_what_is_no_time_is_one_sentence(cells: list[object], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        moments(column(*cells), "log")


@pytest.mark.parametrize(
    ("cut", "fault"),
    [([2], "must be two times"), (["soon", 4], "has 'soon'"), ([4, 2], "give the earlier time first")],
)
def test_cuts_that_cannot_be_are_one_sentence(cut: list[object], fault: str) -> None:
    frame = pd.DataFrame({"when": [5, 1, 3, 2, 4]})
    with pytest.raises(UserError, match=fault):
        parts_of(frame, "when", None, cut, np.random.default_rng(0), "log")
