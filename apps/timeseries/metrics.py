"""Forecast errors by window, missing values left out.

Each function takes forecast and target (..., H) and a mask (..., H), True where the target was observed;
without a mask all of it was. It returns the error of each window (...), NaN where no step was observed, and
`average` the mean of the windows that have one. To get errors by step, pass transposed tensors (H, B).
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
