"""Paired bootstrap intervals over seeds and test units."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
FEWEST_SEEDS = 5
REPLICATES = 10_000
CHUNK = 4_000_000


@dataclass(frozen=True)
class Sample:
    """One metric of one arm: `values` (S,) by seed, `units` (S, N) by seed and unit, their `weights` (N,).

    An arm without randomness has S = 1. Without weights units weigh equally.
    """

    values: np.ndarray
    units: np.ndarray | None = None
    weights: np.ndarray | None = None


@dataclass(frozen=True)
class Bounds:
    """A difference of means, its interval, and what it rests on (`units` 0: on the seeds alone)."""

    difference: float
    low: float
    high: float
    seeds: int
    units: int

    @property
    def beyond(self) -> bool:
        """The interval excludes zero, and there are enough seeds to say so."""
        return self.seeds >= FEWEST_SEEDS and (self.low > 0 or self.high < 0)


def paired_interval(
    arm: Sample, against: Sample, entropy: str = "", replicates: int = REPLICATES, level: float = LEVEL
) -> Bounds:
    """Return the mean difference `arm - against` with its percentile bootstrap interval.

    Seeds and units are both paired: a replicate draws S seeds and N units with replacement and averages the
    differences over all drawn pairs. A sample with a single seed stands for every seed of the other.

    A plain percentile interval is too narrow over few seeds: it covers 82% at S = 5 where seeds dominate. So
    the deviations of the seeds from their mean are first widened by sqrt(S / (S - 1)) t / z, with t and z the
    quantiles of Student's distribution with S - 1 degrees of freedom and of the normal one, and those of the
    units likewise with N. This is the expanded percentile interval (Hesterberg 2015, 'What Teachers Should
    Know About the Bootstrap') on both axes.

    Args:
        arm: What is compared.
        against: What it is compared with.
        entropy: Text that seeds the draws: equal text, equal interval.
        replicates: How many bootstrap replicates are drawn.
        level: The share that the interval covers.

    Raises:
        ValueError: Samples that do not pair up: unequal seeds, units or weights.
    """
    values = _differences(arm.values[:, None], against.values[:, None])
    units = _unit_differences(arm, against)
    pairs, weights = (values, np.ones(1)) if units is None else units
    draws = _replicates(
        _widened(pairs, weights, level), weights, np.random.default_rng(list(entropy.encode())), replicates
    )
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Bounds(
        float(values.mean()), float(low), float(high), len(values), 0 if units is None else pairs.shape[1]
    )


def _unit_differences(arm: Sample, against: Sample) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the differences (S, N) and weights (N,), or None where an arm has no units."""
    if arm.units is None or against.units is None:
        return None
    pairs = _differences(arm.units, against.units)
    ones = np.ones(pairs.shape[1])
    weights, other = (ones if s.weights is None else s.weights for s in (arm, against))
    if not np.array_equal(weights, other):
        raise ValueError("their test units have unequal weights")
    return pairs, weights


def _differences(arm: np.ndarray, against: np.ndarray) -> np.ndarray:
    if 1 not in (len(arm), len(against)) and len(arm) != len(against):
        raise ValueError(f"they have {len(arm)} and {len(against)} seeds")
    if arm.shape[1] != against.shape[1]:
        raise ValueError(f"they have {arm.shape[1]} and {against.shape[1]} test units")
    result: np.ndarray = arm - against
    return result


def _widened(pairs: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    by_seed = np.average(pairs, axis=1, weights=weights)
    by_unit = pairs.mean(axis=0)
    mean = by_seed.mean()
    seeds, units = (_expansion(size, level) - 1 for size in pairs.shape)
    widened: np.ndarray = pairs + seeds * (by_seed - mean)[:, None] + units * (by_unit - mean)
    return widened


def _expansion(size: int, level: float) -> float:
    """Return by how much deviations of so few from their mean are widened; 1 where there is one alone."""
    from scipy.special import ndtri, stdtrit  # late: it takes long to import, and no cell needs it

    if size == 1:
        return 1.0
    quantile = (1 + level) / 2
    return float(np.sqrt(size / (size - 1)) * stdtrit(size - 1, quantile) / ndtri(quantile))


def _replicates(
    pairs: np.ndarray, weights: np.ndarray, rng: np.random.Generator, replicates: int
) -> np.ndarray:
    """Draw bootstrap means of `pairs` (S, N): counts of seeds times differences times counts of units."""
    seeds, units = pairs.shape
    drawn = []
    for size in _chunks(replicates, units):
        by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size) / seeds
        by_unit = rng.multinomial(units, np.full(units, 1 / units), size=size) * weights
        total = by_unit.sum(axis=1)
        drawn.append(((by_seed @ pairs) * by_unit).sum(axis=1) / np.where(total > 0, total, 1))
    return np.concatenate(drawn)


def _chunks(replicates: int, units: int) -> Iterator[int]:
    size = max(1, CHUNK // units)
    for start in range(0, replicates, size):
        yield min(size, replicates - start)
