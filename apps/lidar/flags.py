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
    seen: np.ndarray, there: np.ndarray, physical: dict[str, np.ndarray], scale: Scale, strange: np.ndarray
) -> np.ndarray:
    """Why an estimate is to be doubted, (B,) of str, "" where nothing speaks against it.

    Args:
        seen: photons in the run's window, (B,).
        there: photons of the histogram, (B,).
        physical: the estimates, in mm and ns.
        scale: ranges of the run.
        strange: (B,) or (1,), where response, bins or tissue are unlike those of training.
    """
    outside = strange | beyond(np.log(seen.clip(min=1)), tuple(np.log(scale.photons)))
    for name in OUTPUTS:
        outside = outside | beyond(physical[name], getattr(scale, name))
    reasons = {
        "outside window": seen < (1 - LOST) * there,
        "few photons": seen < FEW,
        "beyond training": outside,
    }
    return np.select(list(reasons.values()), list(reasons), "")


def beyond(value: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Where values lie outside a range of training, by more than a little of it."""
    slack = BEYOND * (span[1] - span[0])
    outside: np.ndarray = (value < span[0] - slack) | (value > span[1] + slack)
    return outside
