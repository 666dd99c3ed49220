"""What pages and pictures ask of a result file."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from apps.common.compare.intervals import FEWEST_SEEDS
from apps.common.compare.schema import Interval, Results, Row
from apps.common.compare.trials import ROUTED

WHOLE = "all"
LEVEL = "no difference shown"
BY_SEEDS = " by seeds"
"""Behind a verdict for which seeds alone were resampled."""


@dataclass(frozen=True)
class View:
    """The rows and intervals of one data set of a result file."""

    data: str
    rows: Sequence[Row]
    intervals: Sequence[Interval]

    @classmethod
    def each(cls, results: Results) -> "list[View]":
        """Return one view for each data set, in the order of the rows."""
        intervals = results.get("intervals", [])
        return [
            cls(
                data,
                [row for row in results["rows"] if row["data"] == data],
                [interval for interval in intervals if interval["data"] == data],
            )
            for data in _distinct(row["data"] for row in results["rows"])
        ]

    @property
    def arms(self) -> list[str]:
        """The arms, in order."""
        return _distinct(row["arm"] for row in self.rows)

    @property
    def slices(self) -> list[str]:
        """The slices, the whole first."""
        return sorted(_distinct(row["slice"] for row in self.rows), key=lambda name: name != WHOLE)

    def metrics(self, slice_: str) -> list[str]:
        """Return the metrics of a slice, in order."""
        return _distinct(row["metric"] for row in self.rows if row["slice"] == slice_)

    def mean(self, arm: str, slice_: str, metric: str) -> float | None:
        """Return the mean over seeds, or None where the arm has no such measurement."""
        wanted = (arm, slice_, metric)
        values = [row["value"] for row in self.rows if (row["arm"], row["slice"], row["metric"]) == wanted]
        return fmean(values) if values else None

    def interval(self, arm: str, slice_: str, metric: str) -> Interval | None:
        """Return the arm's difference to the routed arm."""
        wanted = (arm, slice_, metric)
        return next((i for i in self.intervals if (i["arm"], i["slice"], i["metric"]) == wanted), None)

    def units(self, slice_: str) -> int:
        """Return on how many test units the intervals of a slice rest; 0 where on the seeds alone."""
        return max((i["units"] for i in self.intervals if i["slice"] == slice_), default=0)

    def higher_is_better(self, slice_: str, metric: str) -> bool:
        """Return which way a metric is read."""
        place = (slice_, metric)
        return next(row["higher_is_better"] for row in self.rows if (row["slice"], row["metric"]) == place)

    def decimals(self, slice_: str, metric: str) -> int:
        """Return how many decimals give the typical value of a metric four digits."""
        values = [abs(row["value"]) for row in self.rows if (row["slice"], row["metric"]) == (slice_, metric)]
        typical = median(values)
        return 3 if typical == 0 else min(8, max(0, 3 - math.floor(math.log10(typical))))

    def verdict(self, interval: Interval) -> str:
        """Return who is better in words, or why nothing is claimed."""
        if interval["seeds"] < FEWEST_SEEDS:
            return "too few seeds"
        if not interval["beyond"]:
            return LEVEL
        higher = self.higher_is_better(interval["slice"], interval["metric"])
        better = "better" if (interval["difference"] < 0) == higher else "worse"
        return f"{ROUTED} {better}" + ("" if interval["units"] else BY_SEEDS)


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
