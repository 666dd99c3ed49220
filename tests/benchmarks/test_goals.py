"""Goals are read off the table of points."""

from benchmarks.goals import goals
from benchmarks.grid import Point


def test_goals_by_hand() -> None:
    few, narrow = Point(1024, 64, 64, 1), Point(8192, 64, 4, 1)
    points = {
        few: {"collegium": (2.0, 2.0), "floor": (1.0, 1.6), "best peer": (4.0, 1.0)},
        narrow: {"collegium": (0.5, 1.125), "floor": (1.0, 1.0), "best peer": (1.0, 4.5)},
    }
    found = {label: cells for label, _, *cells in goals(points)}
    assert found == {
        "mean over all points": ["1.00, met", "1.50, missed"],
        "mean, 256 rows an expert and more, width 64": ["0.50, met", "1.12, met"],
        "mean over that of the best peer": ["0.50, met", "0.71, met"],
        "worst point over the best peer": ["0.50, met", f"2.00, missed ({few.name})"],
        "worst point over the floor": [f"2.00, missed ({few.name})", "1.25, met"],
    }


def test_without_points_there_is_nothing_to_tell() -> None:
    assert goals({}) == []
