"""Gaps and balanced accuracy as means over rows, so that they have intervals.

An interval is a bootstrap of units whose mean is the value, but a gap is a difference of means of groups,
whose sizes are a matter of chance too. So each row gets the value plus N times its influence on it, the first
term of its expansion (the infinitesimal jackknife; Efron and Tibshirani 1993, "An Introduction to the
Bootstrap", section 21.3). Of rows drawn anew the mean is then the gap, with its sign, between the two groups,
and for equalised odds of the label, that all rows together set furthest apart.

Legend: N rows.
"""

from collections.abc import Mapping

import numpy as np

from apps.common.compare.units import unit_means
from apps.drift.fair.fairness import LABELS

BLOCK = 100
"""Rows of a unit of the bootstrap."""

Rated = tuple[float, np.ndarray]
"""A value, and (N,) what each row is to it; its mean is the value."""


def blocks(of_row: np.ndarray, size: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """Means of rows (N,) in blocks that follow one another, and how many rows each has."""
    return unit_means(of_row, np.arange(len(of_row)) // size)


def unfairness(table: Mapping[str, np.ndarray]) -> dict[str, Rated]:
    """The gaps of a table by each measure, as `apps.drift.fair.fairness.gaps` has them.

    But a group of which everybody gets the wanted outcome bears no burden, so that there always is a gap.
    """
    predicted, label, group = table["predicted"], table["label"], table["group"]
    of_labels = [_gap(predicted, label == one, group) for one in LABELS]
    found = {
        "parity": _gap(predicted, np.ones(len(label)), group),
        "odds": max(of_labels, key=lambda rated: rated[0]),
    }
    if "distance" in table:
        found["burden"] = _gap(table["distance"], predicted == 0, group, of_none=0.0)
    return found


def balanced_accuracy(label: np.ndarray, predicted: np.ndarray) -> Rated:
    """The mean over labels (N,) of the share of their rows that is predicted right."""
    hits = (label == predicted).astype(float)
    parts = [_mean(hits, label == one) for one in np.unique(label)]
    value = float(np.mean([mean for mean, _ in parts]))
    return value, value + len(label) * np.mean([influence for _, influence in parts], axis=0)


def _gap(value: np.ndarray, weight: np.ndarray, group: np.ndarray, of_none: float | None = None) -> Rated:
    """The largest difference between weighted means of groups; NaN where fewer than two have one.

    of_none: the mean of a group without weight; None where it does not count.
    """
    shares = [weight * (group == one) for one in np.unique(group[group >= 0])]
    means = [_mean(value, share) for share in shares if share.sum() > 0]
    if of_none is not None and len(means) < len(shares):
        means.append((of_none, np.zeros(len(value))))
    parts = sorted(means, key=lambda part: part[0])
    if len(parts) < 2:
        return float("nan"), np.full(len(value), np.nan)
    (low, of_low), (high, of_high) = parts[0], parts[-1]
    return high - low, high - low + len(value) * (of_high - of_low)


def _mean(value: np.ndarray, weight: np.ndarray) -> Rated:
    """A weighted mean, and the influence (N,) of each row on it, which sum to 0."""
    mean = float(np.average(value, weights=weight))
    return mean, weight * (value - mean) / weight.sum()
