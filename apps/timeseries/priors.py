"""Synthetic series of many kinds, to pretrain on: seeded draws from priors, each series standardised.

gaussian_processes  draws whose covariance is a random sum and product of kernels
compositions        a trend, the seasons of a clock, and noise, added or multiplied
regimes             in turn one of three rules of its own: an oscillation, pulses, a ramp, a level, noise

Shapes: S series, T rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import toeplitz

Floats = NDArray[np.float64]
Random = np.random.Generator
Kernel = Callable[[Floats], Floats]
"""Evenly spaced times (T,) to their covariance (T, T)."""
Prior = Callable[[Random, int, int], Floats]
"""rng, S, T to series (S, T)."""

CLOCKS = ((24, 168), (48, 336), (96, 672), (7, 30), (7, 365), (12, 60), (52, 104), (60, 1440))
"""Two seasons each, in rows: day and week of hours, of halves and of quarters; week and month of days; ..."""


def draw(prior: str, series: int, rows: int, seed: int) -> Floats:
    """Draw (S, T) series of a prior, each with mean 0 and deviation 1."""
    rng = np.random.default_rng([seed, list(PRIORS).index(prior)])
    values = PRIORS[prior](rng, series, rows)
    values -= values.mean(1, keepdims=True)
    values /= np.maximum(values.std(1, keepdims=True), 1e-9)
    return values


def gaussian_processes(rng: Random, series: int, rows: int, each: int = 4) -> Floats:
    """Draw ``each`` series from every one of some random kernels."""
    draws = [sample(rng, random_kernel(rng, rows), each, rows) for _ in range(-(-series // each))]
    return np.concatenate(draws)[:series]


def random_kernel(rng: Random, rows: int, most: int = 5) -> Kernel:
    """Combine one to ``most`` kernels from left to right, each added or multiplied with equal odds.

    Source: KernelSynth, Chronos (Ansari et al. 2024), section 4.2 and algorithm 2.
    """
    kernel = _base_kernel(rng, rows)
    for _ in range(int(rng.integers(most))):
        kernel = (add if rng.random() < 0.5 else multiply)(kernel, _base_kernel(rng, rows))
    return kernel


def _base_kernel(rng: Random, rows: int) -> Kernel:
    scale = float(np.exp(rng.uniform(np.log(4), np.log(rows))))
    periods = [period for clock in CLOCKS for period in clock if 2 * period <= rows]
    options: list[Callable[[], Kernel]] = [
        partial(linear, float(rng.uniform(0, rows)), rows),
        partial(rbf, scale),
        partial(periodic, float(rng.choice(periods or [rows // 2])), float(rng.uniform(0.5, 2))),
        partial(rational_quadratic, scale, float(rng.choice([0.1, 1.0, 10.0]))),
        partial(white, float(rng.choice([0.01, 0.1, 1.0]))),
    ]
    shares = [0.15, 0.2, 0.4, 0.15, 0.1]
    return options[int(rng.choice(len(options), p=shares))]()


def linear(anchor: float, rows: float) -> Kernel:
    """(t - c)(t' - c) / T^2: a straight line through zero at c."""
    return lambda time: np.outer(time - anchor, time - anchor) / rows**2


def rbf(scale: float) -> Kernel:
    """exp(-d^2 / 2 s^2) of a distance d."""
    return _stationary(lambda distance: np.exp(-((distance / scale) ** 2) / 2))


def periodic(period: float, width: float) -> Kernel:
    """exp(-2 sin(pi d / p)^2 / w^2): repeats itself every p rows."""
    return _stationary(lambda distance: np.exp(-2 * (np.sin(pi * distance / period) / width) ** 2))


def rational_quadratic(scale: float, mixture: float) -> Kernel:
    """(1 + d^2 / 2 a s^2)^-a: a mixture of rbf kernels of many scales."""
    return _stationary(lambda distance: (1 + (distance / scale) ** 2 / (2 * mixture)) ** -mixture)


def white(variance: float) -> Kernel:
    """Noise of its own at each time."""
    return _stationary(lambda distance: variance * (distance == 0))


def add(one: Kernel, other: Kernel) -> Kernel:
    """The kernel of a sum of two independent processes."""
    return lambda time: one(time) + other(time)


def multiply(one: Kernel, other: Kernel) -> Kernel:
    """The product of two kernels."""
    return lambda time: one(time) * other(time)


def sample(rng: Random, kernel: Kernel, series: int, rows: int) -> Floats:
    """Draw (S, T) series from the Gaussian process of a kernel."""
    covariance = kernel(np.arange(rows, dtype=float))
    jitter = 1e-6 * max(float(covariance.diagonal().mean()), 1e-6)  # smooth kernels are singular in floats
    root = np.linalg.cholesky(covariance + jitter * np.eye(rows))
    return rng.normal(size=(series, rows)) @ root.T


def _stationary(covariance: Callable[[Floats], Floats]) -> Kernel:
    """A kernel of the distance alone, which is evaluated once for each."""
    return lambda time: toeplitz(covariance(time - time[0]))


def compositions(rng: Random, series: int, rows: int) -> Floats:
    """A trend, two seasons of one clock and noise that persists; in half the series a product.

    Source: after the prior of ForecastPFN (Dooley et al. 2023), section 4.1.
    """
    time = np.arange(rows) / rows
    clock = np.array(CLOCKS)[rng.integers(len(CLOCKS), size=series)]
    strength = rng.uniform(0.2, 1, (series, 2)) * (rng.random((series, 2)) < 0.8)
    season = sum(strength[:, [i]] * seasonal(rng, clock[:, i], rows) for i in (0, 1))
    slope, bend = rng.normal(0, 1, (series, 1)), rng.normal(0, 0.7, (series, 1))
    trend = slope * time + bend * time**2 + 0.5 * autoregression(rng, rng.uniform(0.99, 1, series), rows)
    noise = rng.uniform(0.02, 0.4, (series, 1)) * autoregression(rng, rng.uniform(0, 0.9, series), rows)
    product = np.exp(0.5 * trend) * (1 + 0.4 * season) + 0.3 * noise
    return np.where(rng.random((series, 1)) < 0.5, product, trend + season + noise)


def seasonal(rng: Random, period: NDArray[np.int64], rows: int, harmonics: int = 4) -> Floats:
    """Cycles (S, T) of the given periods (S,), with random harmonics, deviation 1 on average."""
    order = np.arange(1, harmonics + 1)[:, None]
    size = rng.normal(size=(len(period), harmonics, 1)) / order
    angle = 2 * pi * order * np.arange(rows) / period[:, None, None]
    phase = rng.uniform(0, 2 * pi, (len(period), harmonics, 1))
    cycles: Floats = (size * np.sin(angle + phase)).sum(1) / np.sqrt((1 / order**2).sum() / 2)
    return cycles


def regimes(rng: Random, series: int, rows: int, count: int = 3) -> Floats:
    """Each series has ``count`` rules and switches between them every 30 to 300 rows on average."""
    drawn = np.stack([rule(rng, series, rows) for rule in RULES], 1)
    chosen = rng.permuted(np.tile(np.arange(len(RULES)), (series, 1)), axis=1)[:, :count]
    level = rng.normal(0, 1, (series, len(RULES), 1))
    stay = np.exp(rng.uniform(np.log(30), np.log(300), (series, 1)))
    piece = np.cumsum((rng.random((series, rows)) < 1 / stay).astype(np.int64), axis=1)
    after = np.take_along_axis(rng.integers(count, size=(series, rows + 1)), piece, axis=1)
    now = np.take_along_axis(chosen, after, axis=1)
    noise = 0.1 * rng.normal(size=(series, rows))
    return np.take_along_axis(drawn + level, now[:, None], axis=1)[:, 0] + noise


def oscillation(rng: Random, series: int, rows: int) -> Floats:
    """A sine with a period of 6 to 96 rows."""
    period, phase = rng.uniform(6, 96, (series, 1)), rng.uniform(0, 2 * pi, (series, 1))
    return np.sin(2 * pi * np.arange(rows) / period + phase)


def pulses(rng: Random, series: int, rows: int) -> Floats:
    """A spike every 8 to 60 rows, which decays."""
    period = rng.integers(8, 61, (series, 1))
    since = (np.arange(rows) + rng.integers(0, 61, (series, 1))) % period
    return 3 * np.exp(-since / rng.uniform(1, 6, (series, 1)))


def ramps(rng: Random, series: int, rows: int) -> Floats:
    """A climb or fall that begins again every 40 to 200 rows."""
    period = rng.uniform(40, 200, (series, 1))
    rise = (np.arange(rows) / period + rng.random((series, 1))) % 1
    return rng.choice([-2.0, 2.0], (series, 1)) * rise


def levels(rng: Random, series: int, rows: int) -> Floats:
    """Constant."""
    return np.zeros((series, rows))


def wandering(rng: Random, series: int, rows: int) -> Floats:
    """Noise that persists."""
    return autoregression(rng, rng.uniform(0.5, 0.98, series), rows)


def autoregression(rng: Random, persistence: Floats, rows: int) -> Floats:
    """AR(1) paths (S, T) of persistence (S,), stationary with deviation 1."""
    shocks = rng.normal(size=(rows, len(persistence)))
    shocks[1:] *= np.sqrt(1 - persistence**2)
    for before, now in pairwise(shocks):
        now += persistence * before
    return shocks.T


RULES: tuple[Prior, ...] = (oscillation, pulses, ramps, levels, wandering)
PRIORS: dict[str, Prior] = {
    "gaussian_processes": gaussian_processes,
    "compositions": compositions,
    "regimes": regimes,
}
