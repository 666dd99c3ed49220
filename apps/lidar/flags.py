"""What is wrong with a histogram, or with what is said of it: a word for each pixel.

Shapes: B histograms, T bins.
"""

from __future__ import annotations

import numpy as np

from apps.lidar.model import OUTPUTS
from apps.lidar.readings import Scale

FEW = 30
"""Photons below which a histogram tells next to nothing."""
LOST, BEYOND = 0.5, 0.1
"""Share of photons outside the run's window, and shares of a range beyond it, that are worth a word."""


def unusable(counts: np.ndarray, full: float = np.inf) -> np.ndarray:
    """Of counts (B, T): why no estimate can be made, (B,) of str, "" where one can.

    A bin that holds `full` or more is saturated.
    """
    finite = np.isfinite(counts).all(1)
    clean = np.where(np.isfinite(counts), counts, 0)
    reasons = {
        "not finite": ~finite,
        "negative": clean.min(1) < 0,
        "saturated": clean.max(1) >= full,
        "empty": clean.sum(1) == 0,
    }
    return np.select(list(reasons.values()), list(reasons), "")


def doubtful(
    seen: np.ndarray, there: np.ndarray, physical: dict[str, np.ndarray], scale: Scale, known: bool
) -> np.ndarray:
    """Why an estimate is to be doubted, (B,) of str, "" where nothing speaks against it.

    Args:
        seen: photons in the run's window, (B,).
        there: photons of the histogram, (B,).
        physical: the estimates, in mm and ns.
        scale: ranges of the run.
        known: whether response and tissue are like those of training.
    """
    beyond = np.zeros(len(seen), dtype=bool)
    for name in OUTPUTS:
        low, high = getattr(scale, name)
        slack = BEYOND * (high - low)
        beyond |= (physical[name] < low - slack) | (physical[name] > high + slack)
    reasons = {
        "outside window": seen < (1 - LOST) * there,
        "few photons": seen < FEW,
        "beyond training": beyond | (not known),
    }
    return np.select(list(reasons.values()), list(reasons), "")


def within(value: np.ndarray, span: tuple[float, float]) -> bool:
    """Whether values lie in a range of training, or hardly beyond it."""
    slack = BEYOND * (span[1] - span[0])
    return bool((value >= span[0] - slack).all() and (value <= span[1] + slack).all())
