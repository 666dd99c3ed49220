"""How good estimates of depth and lifetime are, and how well their quality is known.

Shapes: N estimates.
"""

import numpy as np
from scipy.stats import spearmanr


def rmse(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Root mean squared error of estimates (N,), in their unit."""
    return float(np.sqrt(np.mean((estimate - truth) ** 2)))


def nrmse(estimate: np.ndarray, truth: np.ndarray, by: float) -> float:
    """Root mean squared error over a normaliser: the range of the truth, or its mean."""
    return rmse(estimate, truth) / by


def risk_by_coverage(error: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Root mean squared error of the best-graded n estimates, for n = 1 to N, (N,).

    error: (N,). quality: (N,), higher for what is trusted more.
    """
    order = np.argsort(-quality, kind="stable")
    squares = np.cumsum(error[order] ** 2)
    risk: np.ndarray = np.sqrt(squares / np.arange(1, len(error) + 1))
    return risk


def excess_area(error: np.ndarray, quality: np.ndarray) -> float:
    """Area between the risk of estimates by their quality and by their true error, over that of no order at
    all.

    0 where the quality orders estimates as their errors do, 1 where it tells nothing. Source: Geifman, Uziel
    and El-Yaniv (2019), Bias-reduced uncertainty estimation for deep neural classifiers, for the area; over
    that of no order it needs no unit.
    """
    best = risk_by_coverage(error, -np.abs(error)).mean()
    return float((risk_by_coverage(error, quality).mean() - best) / (rmse(error, np.zeros(1)) - best))


def rank_correlation(quality: np.ndarray, error: np.ndarray) -> float:
    """Spearman's correlation of quality and minus the size of the error: 1 where one tells the other."""
    return float(spearmanr(quality, -np.abs(error)).statistic)
