"""Intersection over union, its surrogate, and units of intervals, beside their definitions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from apps.pointcloud.comparison.outcome import is_measured, mean_units, miou_units
from apps.pointcloud.metrics import accuracy, confusion, iou, lovasz, meant, miou

RANDOM = np.random.default_rng(0)


def test_iou_is_that_of_scikit_learn() -> None:
    truth, told = RANDOM.integers(0, 4, 300), RANDOM.integers(0, 4, 300)
    counts = confusion(truth, told, 5)
    assert iou(counts)[:4] == pytest.approx(jaccard_score(truth, told, average=None))
    assert np.isnan(iou(counts)[4])
    assert miou(counts) == pytest.approx(jaccard_score(truth, told, average="macro"))
    assert accuracy(counts) == pytest.approx((truth == told).mean())


def test_iou_by_hand() -> None:
    truth, told = np.array([0, 0, 0, 1, 1, -1]), np.array([0, 0, 1, 1, 2, 0])
    counts = confusion(truth, told, 2)  # 2 is none of the classes
    assert counts.tolist() == [[2, 1, 0], [0, 1, 1]]
    assert iou(counts).tolist() == [2 / 3, 1 / 3]
    assert accuracy(counts) == 3 / 5
    empty = confusion(np.array([-1]), np.array([0]), 2)
    assert np.isnan(miou(empty))
    assert np.isnan(accuracy(empty))


def test_what_classes_mean() -> None:
    shared = np.array([1, -1, 0, 1])
    assert meant(np.array([0, 1, 2, 3, -1]), shared, 9).tolist() == [1, 9, 0, 1, 9]


def test_of_certain_labels_the_lovasz_loss_is_one_less_the_iou() -> None:
    label, told = torch.from_numpy(RANDOM.integers(0, 3, 60)), torch.from_numpy(RANDOM.integers(0, 3, 60))
    chance = torch.nn.functional.one_hot(told, 3).double()
    wanted = 1 - jaccard_score(label.numpy(), told.numpy(), average="macro")
    assert float(lovasz(chance, label)) == pytest.approx(wanted)


def test_the_lovasz_loss_by_the_definition() -> None:
    """Of one class the Lovasz extension: errors in falling order times what each adds to the Jaccard loss."""
    chance, label = torch.tensor([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]]).double(), torch.tensor([0, 0, 1])
    wanted = []
    for c in (0, 1):
        own = (label == c).double()
        error = (own - chance[:, c]).abs().tolist()
        order = sorted(range(3), key=lambda i: -error[i])
        before, total, wrong = 0.0, 0.0, set[int]()
        for i in order:
            wrong.add(i)
            mistaken = [own[j] if j not in wrong else 1 - own[j] for j in range(3)]
            both = sum(float(a * b) for a, b in zip(own, mistaken, strict=True))
            either = sum(float(max(a, b)) for a, b in zip(own, mistaken, strict=True))
            total += error[i] * ((1 - both / either) - before)
            before = 1 - both / either
        wanted.append(total)
    assert float(lovasz(chance, label)) == pytest.approx(np.mean(wanted))


def test_its_gradient_holds_against_differences() -> None:
    torch.manual_seed(0)
    scores = torch.randn(12, 3, dtype=torch.double, requires_grad=True)
    label = torch.arange(12) % 3
    assert torch.autograd.gradcheck(lambda x: lovasz(x.softmax(1), label), scores)


def units(number: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        truth = random.choice(4, random.integers(20, 60), p=random.dirichlet([1, 1, 1, 0.3]))
        told = np.where(random.random(len(truth)) < 0.7, truth, random.integers(0, 5, len(truth)))
        found.append(confusion(truth, told, 6)[:, [0, 1, 2, 3, 4, 6]][:5])
    return np.stack(found)


def test_the_mean_of_units_is_the_whole_and_their_spread_that_of_resampling() -> None:
    counts, random = units(40), np.random.default_rng(2)
    found = miou_units(counts, counts.sum((0, 2)) > 0)
    assert found.mean() == pytest.approx(miou(counts.sum(0)))
    drawn = [random.integers(0, 40, 40) for _ in range(1500)]
    spread = np.std([miou(counts[rows].sum(0)) for rows in drawn])
    assert np.std([found[rows].mean() for rows in drawn]) == pytest.approx(spread, rel=0.15)


def test_classes_of_few_points_do_not_count() -> None:
    counts = units(40)
    assert (counts.sum((0, 2)) >= 100).tolist() == [True, True, True, False, False]
    there = is_measured(counts.sum(0), np.array([500, 99, 500, 500, 500]))
    assert there.tolist() == [True, False, True, False, False]
    assert miou_units(counts, there).mean() == pytest.approx(iou(counts.sum(0))[[0, 2]].mean())


def test_units_of_a_mean_over_domains() -> None:
    one, other = (miou_units(own, np.arange(5) < 3) for own in (units(30), units(10, seed=3)))
    both = mean_units([one, other])
    assert len(both) == 40
    assert both.mean() == pytest.approx((one.mean() + other.mean()) / 2)
    wanted = np.sqrt(one.var() / 30 + other.var() / 10) / 2
    assert both.std() / np.sqrt(40) == pytest.approx(wanted, rel=1e-6)
