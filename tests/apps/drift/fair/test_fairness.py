"""Gaps and penalties: by hand, against a loop, and their gradients."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from apps.drift.fair.fairness import (
    burden,
    burden_gap,
    distance_to_boundary,
    gaps,
    odds,
    odds_gap,
    parity,
    parity_gap,
    penalty,
)

PREDICTED = np.array([1, 1, 0, 0, 1, 0, 0, 0])
LABEL = np.array([1, 0, 1, 0, 1, 1, 0, 0])
GROUP = np.array([0, 0, 0, 0, 1, 1, 1, 1])
DISTANCE = np.array([0.0, 0.0, 1.0, 2.0, 0.0, 0.5, 1.0, 3.0])


def test_gaps_by_hand() -> None:
    assert parity_gap(PREDICTED, GROUP) == pytest.approx(2 / 4 - 1 / 4)
    # of label 1 both groups get 1/2; of label 0 group 0 gets 1/2 and group 1 nothing
    assert odds_gap(PREDICTED, LABEL, GROUP) == pytest.approx(0.5)
    assert burden_gap(PREDICTED, GROUP, DISTANCE) == pytest.approx((0.5 + 1 + 3) / 3 - (1 + 2) / 2)


def test_a_history_has_a_gap_by_each_measure() -> None:
    table = {"predicted": PREDICTED, "label": LABEL, "group": GROUP}
    assert gaps(table) == pytest.approx({"parity": 0.25, "odds": 0.5})
    assert gaps({**table, "distance": DISTANCE}) == pytest.approx(
        {"parity": 0.25, "odds": 0.5, "burden": 0.0}
    )


def test_penalties_by_hand() -> None:
    chance = torch.tensor([0.9, 0.5, 0.2, 0.6])
    label, group = torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1])
    assert parity(chance, group).item() == pytest.approx(0.7 - 0.4)
    assert odds(chance, label, group).item() == pytest.approx(0.9 - 0.2)
    first, second = (0.1 * 1 + 0.5 * 2) / 0.6, (0.8 * 3 + 0.4 * 4) / 1.2
    distance = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert burden(chance, group, distance).item() == pytest.approx(second - first)


def sample(groups: int, seed: int = 0, rows: int = 60) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    group = random.integers(-1, groups, rows)
    return random.integers(0, 2, rows), random.integers(0, 2, rows), group, random.random(rows)


def by_loop(value: np.ndarray, counts: np.ndarray, group: np.ndarray) -> float:
    """The largest difference of two groups' means, over pairs."""
    means = {g: [v for v, c, own in zip(value, counts, group, strict=True) if c and own == g] for g in group}
    known = [sum(values) / len(values) for g, values in means.items() if g >= 0 and values]
    return max((abs(a - b) for a, b in combinations(known, 2)), default=float("nan"))


@pytest.mark.parametrize("groups", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_gaps_equal_a_loop_over_pairs_of_groups(groups: int, seed: int) -> None:
    predicted, label, group, distance = sample(groups, seed)
    everyone = np.ones_like(predicted)
    assert parity_gap(predicted, group) == pytest.approx(by_loop(predicted, everyone, group))
    of_labels = [by_loop(predicted, label == y, group) for y in (0, 1)]
    assert odds_gap(predicted, label, group) == pytest.approx(max(of_labels))
    assert burden_gap(predicted, group, distance) == pytest.approx(by_loop(distance, predicted == 0, group))


@pytest.mark.parametrize("groups", [2, 4])
def test_a_penalty_of_certain_probabilities_is_the_gap(groups: int) -> None:
    predicted, label, group, distance = sample(groups)
    arguments = [torch.tensor(part) for part in (label, group, distance)]
    chance = torch.tensor(predicted).double()
    found = {m: float(penalty(m, chance, *arguments)) for m in ("parity", "odds", "burden")}
    assert found["parity"] == pytest.approx(parity_gap(predicted, group))
    assert found["odds"] == pytest.approx(odds_gap(predicted, label, group))
    assert found["burden"] == pytest.approx(burden_gap(predicted, group, distance))


def test_groups_that_are_alike_have_no_gap() -> None:
    predicted, label = np.tile(PREDICTED, 2), np.tile(LABEL, 2)
    group, distance = np.repeat([0, 1], len(PREDICTED)), np.tile(DISTANCE, 2)
    assert parity_gap(predicted, group) == odds_gap(predicted, label, group) == 0
    assert burden_gap(predicted, group, distance) == 0


@pytest.mark.parametrize("group", [np.zeros(8, int), np.full(8, -1), np.where(GROUP, -1, 0)])
def test_where_a_group_is_absent_the_gap_is_nan_and_the_penalty_zero(group: np.ndarray) -> None:
    gaps = (
        parity_gap(PREDICTED, group),
        odds_gap(PREDICTED, LABEL, group),
        burden_gap(PREDICTED, group, DISTANCE),
    )
    assert np.isnan(gaps).all()
    told = [torch.tensor(part) for part in (LABEL, group, DISTANCE)]
    chance = torch.full((8,), 0.3, dtype=torch.float64)
    assert all(float(penalty(m, chance, *told)) == 0 for m in ("parity", "odds", "burden"))


def test_odds_are_not_known_where_a_label_has_one_group_alone() -> None:
    label = np.where(GROUP, 1, 0)  # neither label has both groups
    assert np.isnan(odds_gap(PREDICTED, label, GROUP))
    label[0] = 1  # label 1 has both, label 0 one
    assert np.isnan(odds_gap(PREDICTED, label, GROUP))
    chance = torch.tensor([0.9, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2])
    assert float(odds(chance, torch.tensor(label), torch.tensor(GROUP))) == pytest.approx(0.7)


@pytest.mark.parametrize("measure", ["parity", "odds", "burden"])
@pytest.mark.parametrize("groups", [2, 3])
def test_gradients_of_penalties(measure: str, groups: int) -> None:
    _, label, group, _ = sample(groups, rows=20)
    torch.manual_seed(0)
    logits = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    length = torch.rand(3, dtype=torch.float64).add(0.5).requires_grad_()

    def loss(logits: Tensor, scores: Tensor, length: Tensor) -> Tensor:
        trust = scores.softmax(1)
        chance = (trust * logits.sigmoid()).sum(1)
        distance = distance_to_boundary(logits, length, trust)
        return penalty(measure, chance, torch.tensor(label), torch.tensor(group), distance)

    assert torch.autograd.gradcheck(loss, (logits, scores, length))
    assert loss(logits, scores, length) > 0


def test_the_distance_of_one_expert_ends_on_its_boundary() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(50, 4), torch.randn(4), torch.tensor(0.3)
    logit = x @ weight + bias
    distance = distance_to_boundary(logit[:, None], weight.norm()[None], torch.ones(50, 1))
    there = x + distance[:, None] * weight / weight.norm()
    unwanted = logit < 0
    assert 0 < unwanted.sum() < 50
    torch.testing.assert_close(
        (there @ weight + bias)[unwanted], torch.zeros(int(unwanted.sum())), atol=1e-5, rtol=0
    )
    assert torch.equal(distance[~unwanted], torch.zeros(int((~unwanted).sum())))


def test_the_distance_of_a_mixture_is_weighted_by_the_gate() -> None:
    logit, length = torch.tensor([[-2.0, 3.0], [-1.0, -6.0]]), torch.tensor([2.0, 3.0])
    trust = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    assert distance_to_boundary(logit, length, trust).tolist() == pytest.approx([0.25, 0.5 * 0.5 + 0.5 * 2.0])
