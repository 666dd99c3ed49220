"""Training for an arm: schedules run, and the best epoch is one of the network that will be used."""

from collections.abc import Callable

import pytest
import torch
from collegium import routers
from lightning import seed_everything
from torch import Tensor
from torch.utils.data import DataLoader

from apps.common.compare.training import fit_best
from tests.apps.common.told import Rows, Told
from tests.apps.common.toy.toys.moons.model import Net


def told(router: Callable[[int, int], routers.Router], losses: list[float]) -> tuple[Told, float]:
    seed_everything(0, verbose=False)
    task = Told(Net(router=router), losses)
    return task, fit_best(task, Rows(), len(losses), seed=0)


LOSSES = [0.1, 0.2, 0.3, 0.5, 0.4]
"""Schedules end at 80% of training: at the beginning of the last of five epochs."""


@pytest.mark.parametrize(
    ("router", "epoch"), [(routers.DenseToSparse, 4), (routers.TopK, 0)], ids=["scheduled", "plain"]
)
def test_the_best_epoch_is_one_from_after_the_schedule(
    router: Callable[[int, int], routers.Router], epoch: int
) -> None:
    task, score = told(router, LOSSES)
    assert score == pytest.approx(LOSSES[epoch])
    assert torch.equal(task.network.leave.weight, task.weights[epoch])
    _, routing = task.network.mixture(torch.randn(7, 8), return_routing=True)
    assert routing.token.numel() == (7 if epoch else 14)


def test_of_the_epochs_after_the_schedule_the_best_is_kept() -> None:
    losses = [0.1] * 8 + [0.4, 0.3, 0.5]
    task, score = told(routers.DenseToSparse, losses)
    assert score == pytest.approx(0.3)
    assert torch.equal(task.network.leave.weight, task.weights[9])


def test_a_training_too_short_for_its_schedule_keeps_the_best_there_is() -> None:
    class Few(Rows):
        def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
            return DataLoader(self.rows, batch_size=40)

    task = Told(Net(router=routers.DenseToSparse), [0.2, 0.1, 0.3])
    assert fit_best(task, Few(), 3, seed=0) == pytest.approx(0.1)
    assert not task.network.mixture.router.schedule.over
