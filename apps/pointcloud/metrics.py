"""How well labels are told: intersection over union, and accuracy.

Legend: N points, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def confusion(truth: np.ndarray, told: np.ndarray, classes: int) -> np.ndarray:
    """(C, C) int64 points of each class, by what is said of them; those of label -1 are left out.

    Args:
        truth, told: (N,) numbers of classes; one that is told may be `classes`, none of them.
        classes: C. The last column is of those, so that it is (C, C + 1).
    """
    known = truth >= 0
    pairs = truth[known] * (classes + 1) + told[known]
    return np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def iou(counts: np.ndarray) -> np.ndarray:
    """(C,) intersection over union of each class, NaN for one that has no point (Everingham et al. 2015).

    Args:
        counts: of `confusion`.
    """
    hit = np.diagonal(counts[:, :-1]).astype(float)
    there, said = counts.sum(1), counts[:, :-1].sum(0)
    return np.where(there > 0, hit / np.maximum(there + said - hit, 1), np.nan)


def recall(counts: np.ndarray) -> np.ndarray:
    """(C,) share of the points of each class that are told, NaN for one that has none; of `confusion`."""
    there = counts.sum(1)
    return np.where(there > 0, np.diagonal(counts[:, :-1]) / np.maximum(there, 1), np.nan)


def miou(counts: np.ndarray) -> float:
    """The mean over the classes that have points; NaN where none has."""
    each = iou(counts)
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def accuracy(counts: np.ndarray) -> float:
    """Share of points whose class is told; NaN where there is none."""
    return float(np.diagonal(counts[:, :-1]).sum() / counts.sum()) if counts.sum() else float("nan")


def meant(label: np.ndarray, shared: np.ndarray, none: int) -> np.ndarray:
    """(N,) what classes mean; `none` for one that means nothing that is shared.

    Args:
        label: (N,) numbers of classes, -1 where not known.
        shared: (C,) number of what each class means, -1 for a class of its own.
        none: number for what is not shared.
    """
    found = np.where(label >= 0, shared[label], -1)
    return np.where(found >= 0, found, none)


def lovasz(chance: Tensor, label: Tensor) -> Tensor:
    """The Lovasz-softmax loss, a surrogate of one less the mean IoU over the classes that are there.

    Source: Berman et al. 2018, "The Lovasz-Softmax loss", eq. 8 and 9 and algorithm 1.

    Args:
        chance: (N, C) chances of the classes.
        label: (N,) all of them known, at least one.
    """
    there = torch.unique(label)
    own = (label[:, None] == there).to(chance.dtype)
    errors, order = (own - chance[:, there]).abs().sort(0, descending=True)
    hit = own.gather(0, order)
    missed = hit.sum(0) - hit.cumsum(0)
    jaccard = 1 - missed / (hit.sum(0) + (1 - hit).cumsum(0))
    slope = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    loss: Tensor = (errors * slope).sum(0).mean()
    return loss
