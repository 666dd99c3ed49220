"""What makes a mixture grow, and what a newcomer is."""

import pytest
import torch
from torch import Tensor

from apps.drift.fair.growth import Watch, newcomer
from apps.drift.fair.objective import Objective

ROWS = 3000


def rows(rate: tuple[float, float], wrong: float, seed: int = 0) -> tuple[Tensor, ...]:
    """Labels, predictions, groups and distances, by the rate of outcome 1 in each group and the error."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(3, ROWS, generator=generator)
    group = (draw[0] < 0.4).long()
    predicted = (draw[1] < torch.tensor(rate)[group]).long()
    return predicted ^ (draw[2] < wrong).long(), predicted, group, torch.zeros(ROWS)


def test_rows_of_two_groups_are_paired_as_they_come() -> None:
    watch = Watch("parity")
    group = torch.tensor([0, 1, 0, 0, -1, 1, 1])
    outcome = torch.tensor([1, 0, 1, 0, 1, 1, 1])  # pairs: first two rows, then the fourth and the sixth
    watch.look(outcome, outcome, group, torch.zeros(7))
    ((key, detector),) = watch.gaps.items()
    assert key == (0, 1, 0)
    assert detector.width == 2
    assert detector.estimation == pytest.approx(((1 + 1) / 2 + (1 - 1) / 2) / 2)


def test_odds_are_watched_in_rows_of_one_label_and_burden_in_those_who_got_nothing() -> None:
    label, predicted = torch.tensor([1, 1, 0, 0, 0]), torch.tensor([1, 0, 0, 1, 0])
    group, distance = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0.0, 2.0, 1.0, 0.0, 4.0])
    watch = Watch("odds")
    watch.look(label, predicted, group, distance)
    told = {key: (detector.width, detector.estimation) for key, detector in watch.gaps.items()}
    assert told == {(0, 1, 1): (1, 1.0), (0, 1, 0): (1, 0.0)}
    watch = Watch("burden")
    watch.look(label, predicted, group, distance)
    ((key, detector),) = watch.gaps.items()
    assert key == (0, 1, 0)
    assert detector.estimation == pytest.approx((1 + (1 / 5 - 2 / 5)) / 2)


def test_of_three_groups_each_pair_is_watched() -> None:
    watch = Watch("parity")
    outcome = torch.ones(60, dtype=torch.int64)
    watch.look(outcome, outcome, torch.arange(60) % 3, torch.zeros(60))
    assert set(watch.gaps) == {(0, 1, 0), (0, 2, 0), (1, 2, 0)}


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (((0.5, 0.5), 0.1), ((0.5, 0.5), 0.3), "errors"),
        (((0.5, 0.5), 0.1), ((0.6, 0.3), 0.1), "fairness"),
        (((0.5, 0.5), 0.1), ((0.3, 0.6), 0.1), "fairness"),
        (((0.3, 0.3), 0.1), ((0.7, 0.7), 0.1), None),
        (((0.5, 0.5), 0.3), ((0.5, 0.5), 0.1), None),
        (((0.7, 0.3), 0.1), ((0.5, 0.5), 0.1), None),
        (((0.5, 0.5), 0.1), ((0.5, 0.5), 0.1), None),
    ],
)
def test_only_what_becomes_worse_is_told_and_only_once_it_has(
    before: tuple[tuple[float, float], float], after: tuple[tuple[float, float], float], why: str | None
) -> None:
    watch = Watch("parity")
    assert watch.look(*rows(*before)) is None
    assert watch.look(*rows(*after, seed=1)) == why


def test_a_newcomer_is_fitted_from_the_expert_that_does_best() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 3)
    label, group = (x[:, 0] > 0).long(), torch.full((400,), -1)
    weight, bias = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), torch.zeros(2)
    before = weight.clone()
    objective = Objective(weight=0.0)
    w, b = newcomer(objective, weight, bias, x, label, group)
    losses = [float(objective.alone(*expert, x, label, group)) for expert in zip(weight, bias, strict=True)]
    assert float(objective.alone(w, b, x, label, group)) < 0.5 * min(losses)
    assert torch.equal(weight, before)
    assert ((x @ w + b > 0) == (label == 1)).float().mean() > 0.97


def test_a_newcomer_for_fairness_has_less_of_a_gap() -> None:
    torch.manual_seed(0)
    group = torch.arange(600) % 2
    x = torch.randn(600, 3) + torch.stack([1.5 * group, group, 0 * group], 1)
    label = (x[:, 0] > 0.75).long()
    weight, bias = torch.zeros(1, 3), torch.zeros(1)

    def gap(penalty: float) -> float:
        w, b = newcomer(Objective("parity", penalty), weight + 0.1, bias, x, label, group)
        told = (x @ w + b > 0).float()
        return abs(float(told[group == 0].mean() - told[group == 1].mean()))

    assert gap(3.0) < 0.3 * gap(0.0)
