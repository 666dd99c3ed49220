"""Attributions: efficiency, and the definition by coalitions."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from torch import Tensor

from apps.drift.fair.shapley import by_column, by_group, over_windows, shapley

N, D, E = 5, 4, 3


def mixture() -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    x, weight = torch.randn(N, D, dtype=torch.float64), torch.randn(E, D, dtype=torch.float64)
    bias, trust = torch.randn(E, dtype=torch.float64), torch.randn(N, E, dtype=torch.float64).softmax(1)
    return x, weight, bias, trust


def test_they_add_up_to_the_logit_less_the_base_value() -> None:
    x, weight, bias, trust = mixture()
    mean = torch.randn(D, dtype=torch.float64)
    found = shapley(x, weight, bias, trust, mean)
    logit = (trust * (x @ weight.T + bias)).sum(1)
    base = (trust * (mean @ weight.T + bias)).sum(1)
    torch.testing.assert_close(found.base, base)
    torch.testing.assert_close(found.values.sum(1), logit - base)


def test_they_are_the_shapley_values_of_the_gated_logit() -> None:
    """By the definition: over all coalitions, features outside replaced by those of background rows."""
    x, weight, bias, trust = mixture()
    background = torch.randn(7, D, dtype=torch.float64) + 1

    def worth(row: int, known: tuple[int, ...]) -> float:
        mixed = background.clone()
        mixed[:, list(known)] = x[row, list(known)]
        return float(((mixed @ weight.T + bias) @ trust[row]).mean())

    found = shapley(x, weight, bias, trust, background.mean(0)).values
    for row in range(N):
        for feature in range(D):
            others = [i for i in range(D) if i != feature]
            value = 0.0
            for size in range(D):
                share = factorial(size) * factorial(D - size - 1) / factorial(D)
                for known in combinations(others, size):
                    value += share * (worth(row, (*known, feature)) - worth(row, known))
            assert float(found[row, feature]) == pytest.approx(value, abs=1e-9)


def test_columns_windows_and_groups_by_hand() -> None:
    values = np.array([[1.0, -2.0, 3.0], [3.0, 0.0, -1.0], [5.0, 2.0, 1.0]])
    assert by_column(values, [1, 2]).tolist() == [[1.0, 1.0], [3.0, -1.0], [5.0, 3.0]]
    rows, means = over_windows(values, 2)
    assert rows.tolist() == [2, 3]
    assert means.tolist() == [[2.0, 1.0, 2.0], [5.0, 2.0, 1.0]]
    told = by_group(values, np.array([0, 2, 0]), 3)
    assert told[0].tolist() == [3.0, 0.0, 2.0]
    assert np.isnan(told[1]).all()
    assert told[2].tolist() == [3.0, 0.0, -1.0]
