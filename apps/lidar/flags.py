"""What is wrong with a histogram, or with what is said of it: a word for each pixel.

Shapes: B histograms, T bins.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import poisson

from apps.lidar.model import OUTPUTS
from apps.lidar.readings import Scale

FEW = 30
"""Photons below which a histogram tells next to nothing."""
LOST, BEYOND, OUTSIDE = 0.5, 0.1, 0.02
"""Share of photons outside the run's window, and shares of a range that what is given, and what is estimated,
lies beyond it, that are worth a word. Estimates of what lies inside hardly ever lie outside."""
DARK, SURELY = 1e-3, 1e-4
"""Share of the response that may have come in bins that count as before the flash; and how probable a
histogram is at most, among those of training, where that is worth a word."""


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


def early(counts: np.ndarray, response: np.ndarray, scale: Scale) -> np.ndarray:
    """Where more photons come before the flash than the background of training explains, (B,) bool.

    It is so where there is no target, or the flash is elsewhere.

    Args:
        counts: (B, T) in the run's window.
        response: (T,) light of the response there, without any way to go.
        scale: ranges of the run.
    """
    before = int((response.cumsum() < DARK * response.sum()).sum())
    usual = scale.background[1] * counts.sum(1) * before / counts.shape[1]
    unlikely: np.ndarray = poisson.sf(counts[:, :before].sum(1) - 1, usual) < SURELY
    return unlikely


def doubtful(
    seen: np.ndarray,
    there: np.ndarray,
    physical: dict[str, np.ndarray],
    scale: Scale,
    strange: np.ndarray,
    lit: np.ndarray,
    unfit: np.ndarray,
) -> np.ndarray:
    """Why an estimate is to be doubted, (B,) of str, "" where nothing speaks against it.

    Args:
        seen: photons that came in the run's window, (B,).
        there: photons of the whole histogram, (B,).
        physical: the estimates, in mm and ns.
        scale: ranges of the run.
        strange: (B,) or (1,), where response, bins or tissue are unlike those of training.
        lit: (B,), where there is light before the flash, see `early`.
        unfit: (B,), where no simulated light is like the histogram, see `misfit.chance`.
    """
    outside = strange | beyond(np.log(seen.clip(min=1)), tuple(np.log(scale.photons)))
    for name in OUTPUTS:
        outside = outside | beyond(physical[name], getattr(scale, name), OUTSIDE)
    reasons = {
        "outside window": seen < (1 - LOST) * there,
        "few photons": seen < FEW,
        "light before flash": lit,
        "poor fit": unfit,
        "beyond training": outside,
    }
    return np.select(list(reasons.values()), list(reasons), "")


def beyond(value: np.ndarray, span: tuple[float, float], share: float = BEYOND) -> np.ndarray:
    """Where values lie outside a range of training, by more than a share of it."""
    slack = share * (span[1] - span[0])
    outside: np.ndarray = (value < span[0] - slack) | (value > span[1] + slack)
    return outside
