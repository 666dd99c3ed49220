"""Seeded hourly series that follow other rules in each of four groups: one map for all must compromise.

demand    daily and weekly seasons times a wandering level; the daily amplitude drifts
regimes   an oscillation that switches between two periods, neither of them a day
ramps     a level that moves steadily for days, shifts, and moves on at another rate
pulses    a quiet base with decaying spikes at a period of their own, some of which do not come
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from apps.timeseries.tables import Table

Floats = NDArray[np.float64]
Rule = Callable[[np.random.Generator, int], Floats]


def simulate(rows: int = 6000, per_group: int = 3, seed: int = 0, missing: float = 0.005) -> Table:
    """Draw `per_group` series of each group, hourly from 2020-01-01.

    missing: the share of values that is lost, in gaps of some hours.
    """
    seeds = iter(np.random.SeedSequence(seed).spawn(len(RULES) * per_group))
    series = {}
    for group, rule in RULES.items():
        for number in range(1, per_group + 1):
            rng = np.random.default_rng(next(seeds))
            series[f"{group}_{number}"] = _lose(rng, rule(rng, rows), missing)
    values = np.column_stack(list(series.values()))
    return Table(values, pd.date_range("2020-01-01", periods=rows, freq="h"), tuple(series), "h")


def demand(rng: np.random.Generator, rows: int) -> Floats:
    """Daily and weekly seasons times a wandering level; the daily amplitude drifts."""
    hour = np.arange(rows)
    phase = rng.uniform(0, 24)
    day = np.sin(2 * np.pi * (hour - phase) / 24) + 0.4 * np.sin(4 * np.pi * (hour - phase) / 24 + 1.0)
    weekend = np.where(hour // 24 % 7 >= 5, -0.8, 0.3)
    amplitude = np.exp(autoregression(rng, rows, 0.998, 0.3))
    level = np.exp(autoregression(rng, rows, 0.999, 0.2))
    return level * (5 + amplitude * day + weekend + autoregression(rng, rows, 0.8, 0.25))


def regimes(rng: np.random.Generator, rows: int) -> Floats:
    """An oscillation of two periods and amplitudes in turn, each lasting for about ten days."""
    regime = switching(rng, rows, stay=240)
    period = np.where(regime == 0, rng.uniform(20, 23), rng.uniform(26, 30))
    phase = np.cumsum(2 * np.pi / period + rng.normal(0, 0.02, rows))
    return np.where(regime == 0, 1.0, 0.6) * np.sin(phase) + autoregression(rng, rows, 0.5, 0.2)


def ramps(rng: np.random.Generator, rows: int) -> Floats:
    """A level that climbs or falls for about five days, shifts and turns; folded into 0 to 4."""
    regime = switching(rng, rows, stay=120)
    shifts = np.diff(regime, prepend=regime[0]) * rng.normal(0, 0.7, rows)
    level = np.cumsum(np.where(regime == 0, 1, -1) * rng.uniform(0.02, 0.04) + shifts)
    return np.abs(level % 8 - 4) + autoregression(rng, rows, 0.3, 0.1)


def pulses(rng: np.random.Generator, rows: int) -> Floats:
    """Spikes every 30 to 44 hours, decaying over some hours; one in ten does not come."""
    period = int(rng.integers(30, 45))
    times = np.arange(int(rng.integers(period)), rows, period)
    spikes = np.zeros(rows)
    spikes[times] = (rng.random(len(times)) > 0.1) * rng.normal(4, 0.3, len(times))
    decay = np.exp(-np.arange(24) / 4)
    return np.convolve(spikes, decay)[:rows] + autoregression(rng, rows, 0.9, 0.2)


def autoregression(rng: np.random.Generator, rows: int, persistence: float, deviation: float) -> Floats:
    """A stationary AR(1) path with the given standard deviation."""
    shocks = rng.normal(0, deviation * np.sqrt(1 - persistence**2), rows)
    before = rng.normal(0, deviation)
    path: Floats = lfilter([1.0], [1.0, -persistence], shocks, zi=[persistence * before])[0]
    return path


def switching(rng: np.random.Generator, rows: int, stay: int) -> NDArray[np.int64]:
    """A path of 0 and 1 that stays for `stay` rows on average."""
    return (np.cumsum(rng.random(rows) < 1 / stay) + rng.integers(2)) % 2


def _lose(rng: np.random.Generator, values: Floats, share: float, longest: int = 24) -> Floats:
    lost = values.copy()
    while np.isnan(lost).mean() < share:
        begin = int(rng.integers(len(values)))
        lost[begin : begin + int(rng.integers(1, longest))] = np.nan
    return lost


RULES: dict[str, Rule] = {"demand": demand, "regimes": regimes, "ramps": ramps, "pulses": pulses}
