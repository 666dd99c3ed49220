"""What training asks of a network."""

import dataclasses

import numpy as np
import pytest
import torch

from apps.common.errors import UserError
from apps.pointcloud.cloud import Cloud
from apps.pointcloud.crops import Batch
from apps.pointcloud.features import Scan, scan_of
from apps.pointcloud.metrics import lovasz
from apps.pointcloud.model import PointMoE, Points
from apps.pointcloud.task import Task, loss_of, weights_of


def scan(domain: int, label: list[int]) -> Scan:
    xyz = np.arange(3.0 * len(label)).reshape(-1, 3)
    made = scan_of(Cloud(xyz, np.zeros(3)), domain=domain, side=1.0)
    return dataclasses.replace(made, label=np.array(label))


def test_a_class_weighs_by_how_rare_it_is_in_its_domain() -> None:
    scans = [scan(0, [0, 0, 0, 1, -1]), scan(1, [2, 2]), scan(0, [0, 0, 0, 0, 0])]
    classes = np.array([[True, True, False, False], [False, False, True, True]])
    weights = weights_of(scans, classes, 0.5)
    assert torch.allclose(weights, torch.tensor([[(9 / 8) ** 0.5, 3.0, 0, 0], [0, 0, 1, 0]]), rtol=1e-4)
    assert torch.equal(weights_of(scans, classes, 0.0), (weights > 0).float())


def test_the_loss_is_a_mean_over_domains_of_weighted_errors() -> None:
    torch.manual_seed(0)
    cloud, label = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, -1, 1])
    nothing = torch.zeros(4, 0), torch.zeros(4, 3, dtype=torch.long)
    points = Points(*nothing, cloud, torch.tensor([1, 0]), torch.ones(2, 2, dtype=torch.bool))
    scores, weights = torch.randn(4, 2), torch.tensor([[1.0, 2.0], [1.0, 3.0]])
    of = -scores.log_softmax(1)
    first = (of[0, 0] + 3 * of[1, 1]) / 4 + lovasz(scores[:2].softmax(1), label[:2])
    second = of[3, 1] + lovasz(scores[3:].softmax(1), label[3:])
    assert loss_of(scores, Batch(points, label), weights) == pytest.approx(float(first + second) / 2)


def test_a_checkpoint_of_other_features_is_refused() -> None:
    task = Task(PointMoE(dims=[16]))
    with pytest.raises(UserError, match="trained on other features than there are now: train again"):
        task.on_load_checkpoint({"size": (15, 3, 1)})


def test_a_batch_without_known_cells_teaches_nothing() -> None:
    points = Points(
        torch.zeros(2, 0), torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, dtype=torch.long),
        torch.tensor([0]), torch.ones(1, 2, dtype=torch.bool),
    )  # fmt: skip
    scores = torch.randn(2, 2, requires_grad=True)
    loss_of(scores, Batch(points, torch.tensor([-1, -1])), torch.ones(1, 2)).backward()
    assert scores.grad is not None
    assert not scores.grad.any()
