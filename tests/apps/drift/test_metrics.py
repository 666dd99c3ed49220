"""Metrics of streams on cases counted by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.drift.metrics import kappa, majority, measure, no_change, over, recovery, right, windowed

LABEL = np.array([1, 1, 0, 1, 2, 2])
SAID = np.array([1, 0, 0, 1, 2, 0])


def test_floors_know_the_rows_before_alone() -> None:
    assert majority(LABEL).tolist() == [0, 1, 1, 1, 1, 1]
    assert no_change(LABEL).tolist() == [0, 1, 1, 0, 1, 2]


def test_the_kappas_by_hand() -> None:
    found = measure(LABEL, SAID)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["kappa_m"] == pytest.approx((4 / 6 - 2 / 6) / (1 - 2 / 6))
    assert found["kappa_t"] == pytest.approx((4 / 6 - 2 / 6) / (1 - 2 / 6))
    often = np.array([1, 1, 1, 0, 1, 1, 1, 1])  # majority is right in 6 rows, no-change in 5
    found = measure(often, np.ones(8, dtype=int))
    assert found["kappa_m"] == pytest.approx((7 / 8 - 6 / 8) / (1 - 6 / 8))
    assert found["kappa_t"] == pytest.approx((7 / 8 - 5 / 8) / (1 - 5 / 8))
    late = measure(often, np.ones(8, dtype=int), first=3)  # majority knows the first rows: 4 of 5
    assert late["accuracy"] == pytest.approx(4 / 5)
    assert late["kappa_m"] == 0
    assert late["kappa_t"] == pytest.approx((4 / 5 - 3 / 5) / (1 - 3 / 5))
    found = measure(LABEL, SAID)
    chance = (1 / 6) * (3 / 6) + (3 / 6) * (2 / 6) + (2 / 6) * (1 / 6)
    assert found["kappa"] == pytest.approx((4 / 6 - chance) / (1 - chance))


def test_a_stream_of_one_class_has_no_kappa() -> None:
    same = np.zeros(5, dtype=int)
    assert math.isnan(kappa(same, same))
    assert math.isnan(over(1.0, 1.0))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 50))
def test_windows_are_plain_means(labels: list[int], window: int) -> None:
    hits = right(np.array(labels), np.zeros(len(labels), dtype=int))
    rows, means = windowed(hits, window)
    for row, mean in zip(rows, means, strict=True):
        assert mean == pytest.approx(hits[max(0, row - window) : row].mean())


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_majority_by_a_plain_loop(labels: list[int]) -> None:
    said, counts = [], [0] * 4
    for label in labels:
        said.append(max(range(4), key=lambda c: (counts[c], -c)))
        counts[label] += 1
    assert majority(np.array(labels)).tolist() == said


def test_recovery_counts_rows_until_accuracy_is_back() -> None:
    good, bad = np.ones(1000), np.zeros(300)
    hits = np.concatenate([good, bad, good, bad, bad, bad])
    first, second = recovery(hits, [1000, 2300], window=100, short=0.01)
    assert first == 300 + 99
    assert math.isnan(second)


def test_recovery_is_measured_by_what_was_before_concepts_began_to_mix() -> None:
    good, mixed = np.ones(1000), np.tile([1.0, 0.0], 100)
    hits = np.concatenate([good, mixed, mixed, good])
    (cost,) = recovery(hits, [1200], width=200, window=100)
    assert cost == 200 + 98  # a hundredth may be wrong
    (lenient,) = recovery(hits, [1200], window=100)
    assert lenient == 100  # were the mixed rows the measure, nothing would have been lost
