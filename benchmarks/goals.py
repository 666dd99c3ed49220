"""What the layer is to reach, and whether it does."""

from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import NamedTuple

from benchmarks.grid import Point

Ratios = Mapping[str, tuple[float, float]]
"""Name of a contestant to its times over those of the dense layer: forward, and forward + backward."""


class Goal(NamedTuple):
    """A bound and what was found, for forward or for forward + backward."""

    bound: float
    found: float
    where: str = ""

    def __str__(self) -> str:
        """The figure, where it is, and whether the bound holds."""
        met = "met" if self.found <= self.bound else "missed"
        return f"{self.found:.2f}, {met}" + (f" ({self.where})" if self.where and met == "missed" else "")


def goals(points: Mapping[Point, Ratios]) -> list[list[str]]:
    """Rows of label, bound, forward, forward + backward; none where there are no points."""
    many = {point: ratios for point, ratios in points.items() if point.rows >= 256}
    wide = [ratios for point, ratios in many.items() if point.width == 256]
    narrow = [ratios for point, ratios in many.items() if point.width == 64]
    rows = [
        ("mean over all points", (1.30, 1.33), _mean(list(points.values()))),
        ("mean, 256 rows an expert and more, width 256", (1.10, 1.10), _mean(wide)),
        ("mean, 256 rows an expert and more, width 64", (1.15, 1.15), _mean(narrow)),
        ("mean over that of the best peer", (1.00, 1.00), _mean(list(points.values()), "best peer")),
        ("worst point over the best peer", (1.03, 1.03), _worst(points, "best peer")),
        ("worst point over the floor", (1.60, 1.60), _worst(points, "floor")),
    ]
    return [
        [label, " / ".join(f"{bound:.2f}" for bound in dict.fromkeys(bounds)), *_told(bounds, found)]
        for label, bounds, found in rows
        if found
    ]


Found = Sequence[tuple[float, str]]
"""A figure and where it is, for forward and for forward + backward."""


def _told(bounds: tuple[float, float], found: Found) -> list[str]:
    return [str(Goal(bound, *pair)) for bound, pair in zip(bounds, found, strict=True)]


def _mean(points: Sequence[Ratios], than: str | None = None) -> Found:
    if not points:
        return ()
    return [(geometric_mean(_over(ratios, than, mode) for ratios in points), "") for mode in (0, 1)]


def _worst(points: Mapping[Point, Ratios], than: str) -> Found:
    if not points:
        return ()
    found = []
    for mode in (0, 1):
        ratios = {point.name: _over(by_arm, than, mode) for point, by_arm in points.items()}
        where = max(ratios, key=lambda name: ratios[name])
        found.append((ratios[where], where))
    return found


def _over(ratios: Ratios, than: str | None, mode: int) -> float:
    return ratios["collegium"][mode] / (1.0 if than is None else ratios[than][mode])
