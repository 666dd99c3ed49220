"""Seasons, hours and weekdays."""

import pandas as pd
import pytest

from apps.timeseries.clock import hour_and_weekday, season


@pytest.mark.parametrize(
    ("frequency", "steps"),
    [
        ("15min", 96),
        ("h", 24),
        ("2h", 12),
        ("D", 7),
        ("B", 5),
        ("W-TUE", 52),
        ("MS", 12),
        ("YS", 1),
        (None, 1),
    ],
)
def test_season(frequency: str | None, steps: int):
    assert season(frequency) == steps


def test_hours_know_hour_and_weekday():
    hour, weekday = hour_and_weekday(pd.date_range("2024-01-07 22:00", periods=4, freq="h"), "h")
    assert hour.tolist() == [22, 23, 0, 1]
    assert weekday.tolist() == [6, 6, 0, 0]  # Sunday, then Monday


def test_days_know_the_weekday_alone():
    hour, weekday = hour_and_weekday(pd.date_range("2024-01-06", periods=3, freq="D"), "D")
    assert hour.tolist() == [-1, -1, -1]
    assert weekday.tolist() == [5, 6, 0]


def test_weeks_and_plain_positions_know_neither():
    weeks = hour_and_weekday(pd.date_range("2024-01-01", periods=2, freq="W-MON"), "W-MON")
    numbers = hour_and_weekday(pd.RangeIndex(2), None)
    assert [a.tolist() for a in (*weeks, *numbers)] == [[-1, -1]] * 4
