"""Naive2, the benchmark that M4 measures others by: the last value of the series without its season.

Source: Makridakis et al. 2020, "The M4 Competition", and the code published with it. T rows, H horizon.
"""

from __future__ import annotations

import numpy as np

SURE = 1.645
"""Deviations beyond which an autocorrelation counts, at 90% on both sides."""


def naive2(series: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Repeat the last value of a series (T,) without its season, and give the season back. Returns (H,)."""
    factors = seasonal_factors(series, season) if is_seasonal(series, season) else np.ones(season)
    begin = len(series) % season
    phase = (begin + np.arange(horizon)) % season
    last: float = series[-1] / factors[begin - 1]
    return last * factors[phase]


def is_seasonal(series: np.ndarray, season: int) -> bool:
    """Tell whether the autocorrelation at the season stands out, given those before it."""
    if season == 1 or len(series) < 3 * season:
        return False
    deviations = series - series.mean()
    lagged = [deviations[lag:] @ deviations[: len(series) - lag] for lag in range(season + 1)]
    if lagged[0] == 0:
        return False
    correlation = np.array(lagged[1:]) / lagged[0]
    limit = SURE * np.sqrt((1 + 2 * np.square(correlation[:-1]).sum()) / len(series))
    return bool(abs(correlation[-1]) > limit)


def seasonal_factors(series: np.ndarray, season: int) -> np.ndarray:
    """Factors (season,) of a classical multiplicative decomposition, the first for the first row."""
    from statsmodels.tsa.seasonal import seasonal_decompose  # late: only the extra `peers` brings it

    found: np.ndarray = seasonal_decompose(series, model="multiplicative", period=season).seasonal[:season]
    return found
