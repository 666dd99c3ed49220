"""Metrics of ranked impressions and of ranked items.

Legend: N rows, U users, I items.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import log_loss as sklearn_log_loss

FEWEST = 150
"""Positives that a task must have in validation rows to count in the mean by which anything is chosen."""


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve of scores (N,) for labels (N,) of 0 and 1; NaN where one of them is absent."""
    below, above = placements(score, label)
    return float(below.mean()) if len(below) and len(above) else float("nan")


def placements(score: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each positive row the share of negatives below, and of each negative the share of positives above.

    Ties count half. The mean of either is the AUC (DeLong, DeLong and Clarke-Pearson 1988).
    """
    positive = label == 1
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if not n1 or not n0:
        return np.zeros(n1), np.zeros(n0)
    whole = rankdata(score)
    below = (whole[positive] - rankdata(score[positive])) / n0
    above = 1 - (whole[~positive] - rankdata(score[~positive])) / n1
    return below, above


def auc_units(score: np.ndarray, label: np.ndarray, unit: np.ndarray, units: int) -> np.ndarray:
    """(units,) numbers whose mean is the AUC, and whose spread is what resampling units would give it.

    Each is the AUC and what the rows of a unit add to it: the derivative of AUC by the weight of the unit,
    times the number of units (the jackknife to first order, with DeLong's placements).

    Args:
        score, label: (N,).
        unit: (N,) from 0 to units - 1.
        units: their number.
    """
    below, above = placements(score, label)
    whole, influence = float(below.mean()), np.zeros(len(score))
    positive = label == 1
    influence[positive] = (below - whole) / len(below)
    influence[~positive] = (above - whole) / len(above)
    return whole + units * np.bincount(unit, weights=influence, minlength=units)


def auc_by_user(
    score: np.ndarray, label: np.ndarray, user: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users who have rows of both labels, the AUC among their own rows, and how many rows each has.

    GAUC is the mean of these weighted by rows (Zhu et al. 2017, "Optimized Cost per Click in Taobao").
    """
    order = np.lexsort((score, user))
    score, label, user = score[order], label[order], user[order]
    who, start = np.unique(user, return_index=True)
    found = [
        (one, auc(score[a:b], label[a:b]), b - a)
        for one, a, b in zip(who, start, np.append(start[1:], len(user)), strict=True)
        if one >= 0 and 0 < label[a:b].sum() < b - a
    ]
    users, values, rows = (
        (np.array(column) for column in zip(*found, strict=True)) if found else (np.zeros(0),) * 3
    )
    return users, values, rows


def gauc(score: np.ndarray, label: np.ndarray, user: np.ndarray) -> float:
    """AUC among the rows of each user, weighted by rows; NaN where no user has both labels."""
    _, values, rows = auc_by_user(score, label, user)
    return float(np.average(values, weights=rows)) if len(values) else float("nan")


def of_known(metric: Callable[[np.ndarray, np.ndarray], float], said: np.ndarray, label: np.ndarray) -> float:
    """A metric of the rows whose label is not NaN; NaN where none is known."""
    known = ~np.isnan(label)
    return metric(said[known], label[known]) if known.any() else float("nan")


def counted(label: np.ndarray, fewest: int) -> list[int]:
    """The columns of labels (N, K) with at least so many positives; all where none has."""
    found = [place for place in range(label.shape[1]) if np.nansum(label[:, place]) >= fewest]
    return found or list(range(label.shape[1]))


def mean_auc(score: np.ndarray, label: np.ndarray, fewest: int = FEWEST) -> float:
    """Mean AUC over the columns of (N, K) with enough positives to tell; 0.5 if none has any, and NaN where a
    score is."""
    if np.isnan(score).any():
        return float("nan")
    areas = [of_known(auc, score[:, place], label[:, place]) for place in counted(label, fewest)]
    return float(np.nanmean(areas)) if np.isfinite(areas).any() else 0.5


def log_loss(chance: np.ndarray, label: np.ndarray) -> float:
    """Mean negative log-likelihood of labels (N,) by chances (N,)."""
    return float(sklearn_log_loss(label, np.clip(chance, 1e-7, 1 - 1e-7), labels=[0, 1]))


def calibration(chance: np.ndarray, label: np.ndarray) -> float:
    """Expected over actual positives: 1 where chances are right on the whole, more where too high; NaN
    where there are none."""
    return float(chance.sum() / label.sum()) if label.sum() else float("nan")


def calibration_error(chance: np.ndarray, label: np.ndarray, bins: int = 20) -> float:
    """Mean distance of chance and share of positives in bins of equally many rows (ECE, adaptive)."""
    parts = np.array_split(np.argsort(chance, kind="stable"), min(bins, len(chance)))
    return float(sum(len(p) * abs(chance[p].mean() - label[p].mean()) for p in parts) / len(chance))


def hits(rank: np.ndarray, k: int) -> np.ndarray:
    """(U,) whether the target is among the first k: HR@k, and recall, as there is one target."""
    return (rank <= k).astype(float)


def ndcg(rank: np.ndarray, k: int) -> np.ndarray:
    """(U,) 1 / log2(1 + rank) within the first k: NDCG@k of one target."""
    return np.where(rank <= k, 1 / np.log2(1 + rank), 0.0)


def coverage(top: np.ndarray, items: int) -> float:
    """Share of all items that somebody is recommended. top: (U, k) ids of items, 0 where there is none."""
    return len(np.unique(top[top > 0])) / items
