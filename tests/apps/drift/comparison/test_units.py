"""Gaps as means over rows: equal to the gaps, and to what leaving rows out does to them."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from apps.drift.comparison.units import BLOCK, balanced_accuracy, blocks, unfairness
from apps.drift.fair.fairness import gaps

ROWS = 1234


def table(groups: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    group = random.integers(-1, groups, ROWS)
    label = random.integers(0, 2, ROWS)
    predicted = (random.random(ROWS) < 0.3 + 0.15 * group + 0.2 * label).astype(int)
    return {
        "label": label,
        "predicted": predicted,
        "group": group,
        "distance": random.random(ROWS) * (1 + group),
    }


@pytest.mark.parametrize("groups", [2, 4])
def test_the_mean_over_rows_is_the_gap(groups: int) -> None:
    some = table(groups)
    found = unfairness(some)
    assert {name: value for name, (value, _) in found.items()} == pytest.approx(gaps(some))
    for value, of_row in found.values():
        means, sizes = blocks(of_row)
        assert np.average(means, weights=sizes) == pytest.approx(value)
        assert sizes.tolist() == [BLOCK] * (ROWS // BLOCK) + [ROWS % BLOCK]


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    some = table()
    value, of_row = balanced_accuracy(some["label"], some["predicted"])
    assert value == pytest.approx(balanced_accuracy_score(some["label"], some["predicted"]))
    assert of_row.mean() == pytest.approx(value)


def test_a_row_is_to_the_gap_what_it_would_change_if_it_came_twice() -> None:
    some = table()
    found = unfairness(some)
    for row in (0, 7, 100):
        twice = {name: np.concatenate([column, column[[row]]]) for name, column in some.items()}
        for name, (value, of_row) in found.items():
            assert (of_row[row] - value) / ROWS == pytest.approx(gaps(twice)[name] - value, abs=2e-5)


def test_their_spread_is_that_of_gaps_of_rows_drawn_anew() -> None:
    some = table()
    random = np.random.default_rng(1)
    drawn = []
    for _ in range(400):
        rows = random.integers(0, ROWS, ROWS)
        drawn.append(gaps({name: column[rows] for name, column in some.items()})["parity"])
    _, of_row = unfairness(some)["parity"]
    assert of_row.std() / ROWS**0.5 == pytest.approx(np.std(drawn), rel=0.15)


def test_a_group_of_which_all_get_the_wanted_outcome_bears_no_burden() -> None:
    some = table()
    some["predicted"] = np.where(some["group"] == 1, 1, some["predicted"])
    denied = (some["group"] == 0) & (some["predicted"] == 0)
    value, of_row = unfairness(some)["burden"]
    assert value == pytest.approx(some["distance"][denied].mean()) == of_row.mean()
    assert (of_row[~denied] == value).all()


def test_a_gap_of_one_group_is_not_a_number() -> None:
    alone = {**table(), "group": np.zeros(ROWS, int)}
    assert all(np.isnan(value) for value, _ in unfairness(alone).values())
