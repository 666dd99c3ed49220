"""What each feature adds to a decision of a mixture of linear experts.

Of one linear expert, l = w x + b, the Shapley value of a feature is w_i (x_i - m_i), where a feature that is
not known is replaced by draws from any distribution whose mean is m (Lundberg and Lee 2017, "A Unified
Approach to Interpreting Model Predictions", corollary 1). For a mixture they are weighted by the gate,
phi_i = sum_k g_k(x) w_ki (x_i - m_i) (Sharma et al. 2022, "FEAMOE").

In what sense these are exact: they are the Shapley values of the game whose worth is the gate-weighted logit
sum_k g_k(x) l_k, with the gate held at what it is for that row. They add up to this logit less its base value
sum_k g_k(x) (w_k m + b_k). They do not say what a feature does to the gate, and they explain the logit and
not the probability, which is sum_k g_k sigmoid(l_k).

Legend: N rows, D features, E experts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor


class Attribution(NamedTuple):
    """Of rows: values (N, D), one a feature, and base (N,); values.sum(1) + base is the logit (N,)."""

    values: Tensor
    base: Tensor


def shapley(x: Tensor, weight: Tensor, bias: Tensor, trust: Tensor, mean: Tensor) -> Attribution:
    """Shapley values of a mixture's gate-weighted logit.

    Args:
        x: (N, D).
        weight, bias: (E, D) and (E,), of the experts.
        trust: (N, E), the gate.
        mean: (D,), the features of nobody in particular.
    """
    mixed = trust @ weight
    return Attribution(mixed * (x - mean), mixed @ mean + trust @ bias)


def by_column(values: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Values (N, D) of features to those of the columns that they encode (N, columns).

    Of a game that is a sum over features, the value of a coalition that acts as one is the sum of theirs.

    Args:
        values: of all features, column after column.
        sizes: how many features each column became.
    """
    starts = np.cumsum([0, *sizes[:-1]])
    return np.add.reduceat(values, starts, axis=1)


def over_windows(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean size of attributions (N, D) in windows that follow one another.

    Returns:
        rows (W,), the end of each window, and means (W, D) of absolute values. The last window may be short.
    """
    starts = np.arange(0, len(values), window)
    counts = np.diff([*starts, len(values)])
    sums = np.add.reduceat(np.abs(values), starts, axis=0)
    return starts + counts, sums / counts[:, None]


def by_group(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """The mean attribution of each feature in each group, (groups, D); NaN for one without rows.

    Their difference between two groups tells which features carry a gap: summed over features it is the
    difference of the mean logits, less that of the mean base values.
    """
    rows = [values[group == one] for one in range(groups)]
    return np.stack([own.mean(0) if len(own) else np.full(values.shape[1], np.nan) for own in rows])
