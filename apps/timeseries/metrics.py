"""Errors of forecasts and of their quantiles by window, missing values left out.

Each function takes forecast and target (..., H) and a mask (..., H), True where the target was observed;
without a mask all of it was. It returns the error of each window (...), NaN where no step was observed, and
`average` the mean of the windows that have one. To get errors by step, pass transposed tensors (H, B).
Quantiles are (..., H, Q), at ascending levels (Q,) between 0 and 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mse(forecast: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error."""
    return _mean((forecast - target).square(), mask)


def mae(forecast: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error."""
    return _mean((forecast - target).abs(), mask)


def mase(forecast: Tensor, target: Tensor, scale: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error over the training error of a seasonal naive forecast.

    scale: (...), that error for the series of each window, from `naive_error`. NaN where it is zero or NaN.
    Source: Hyndman and Koehler (2006); the seasonal form is that of M4.
    """
    return mae(forecast, target, mask) / scale.where(scale > 0, torch.nan)


def smape(forecast: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Symmetric mean absolute percentage error, 0 to 200, for values in the units of the data.

    Steps where forecast and target are both zero count as exact. Source: M4 (Makridakis et al. 2020).
    """
    size = forecast.abs() + target.abs()
    share = (forecast - target).abs() / size.where(size > 0, 1.0)
    return _mean(200 * share, mask)


def pinball(quantiles: Tensor, target: Tensor, levels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean quantile loss, over steps and levels.

    A target above its quantile costs the level of each unit, one below it 1 - level. Source: Koenker and
    Bassett (1978).
    """
    error = target.unsqueeze(-1) - quantiles
    return _mean(torch.maximum(levels * error, (levels - 1) * error).mean(-1), mask)


def crps(quantiles: Tensor, target: Tensor, levels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Continuous ranked probability score of a distribution known by its quantiles at evenly spaced levels.

    Twice the quantile loss; for one quantile at 0.5 the absolute error. The sum of these over the sum of
    absolute targets is GluonTS's mean weighted quantile loss. For m samples in ascending order, as quantiles
    at levels (i - 1/2) / m, it is exact. Source: Gneiting and Raftery (2007), section 4.2; Laio and Tamea
    (2007).
    """
    return 2 * pinball(quantiles, target, levels, mask)


def coverage(low: Tensor, high: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Share of the targets between two bounds, each (..., H)."""
    return _mean(((low <= target) & (target <= high)).to(target.dtype), mask)


def msis(
    low: Tensor, high: Tensor, target: Tensor, level: float, scale: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean interval score of central intervals that are to hold a share `level`, scaled as in `mase`.

    Width, plus 2 / (1 - level) times how far the target lies outside. Source: Gneiting and Raftery (2007),
    section 6.2; the scaled form is that of M4, at level 0.95.
    """
    outside = (low - target).clamp(min=0) + (target - high).clamp(min=0)
    score = high - low + 2 / (1 - level) * outside
    return _mean(score, mask) / scale.where(scale > 0, torch.nan)


def average(errors: Tensor) -> Tensor:
    """Mean over the windows that have an error, a scalar; NaN where none has."""
    return errors.nanmean()


def naive_error(values: Tensor, season: int) -> Tensor:
    """Mean absolute difference between values one season apart, the denominator of MASE.

    values: (T, C) training rows, NaN where missing. Returns (C,), NaN where no pair was observed.
    """
    return (values[season:] - values[:-season]).abs().nanmean(dim=0)


def _mean(errors: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return errors.mean(-1)
    return errors.where(mask, 0.0).sum(-1) / mask.sum(-1).to(errors.dtype)  # 0 / 0 is NaN
