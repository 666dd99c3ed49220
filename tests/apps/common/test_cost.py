"""What a forward pass costs, by hand."""

from typing import Any

import torch
from collegium import MoE, experts, routers
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from apps.common.cost import Cost, measure_cost
from apps.common.task import MoETask


class Data(LightningDataModule):
    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.randn(20, 4)), batch_size=8)


class Task(MoETask):
    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        assert batch_idx == 0
        for _ in range(2):  # as a forecast that goes on from itself
            y = self.network(batch[0])
        self.log("val/loss", y.square().mean())


class Uncalled(Task):
    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", batch[0].mean())


def test_the_cost_of_a_mixture_by_hand() -> None:
    expert = 2 * 4 * 16
    found = measure_cost(Task(MoE(routers.TopK(4, 3, k=2), experts.MLP(4, 3, hidden=16))), Data())
    assert found == Cost(active=12 + 2 * expert, total=12 + 3 * expert, flops=2 * (12 + 2 * expert))


def test_experts_count_by_what_tokens_run() -> None:
    """Top-p of sure tokens runs one expert each, though it might run all."""
    layer = MoE(routers.TopP(4, 3, p=0.5), experts.MLP(4, 3, hidden=16))
    with torch.no_grad():
        layer.router.gate.weight[0] = 0
        layer.router.gate.weight[1:] = -1e6 * torch.eye(4)[:2]
    found = measure_cost(Task(layer), Data())
    assert found.active < found.total


def test_a_network_without_experts_has_a_cost_too() -> None:
    assert measure_cost(Task(nn.Linear(4, 3)), Data()) == Cost(active=15, total=15, flops=24)


def test_a_network_that_validation_does_not_call_has_no_flops() -> None:
    task = Uncalled(nn.Linear(4, 3))
    assert measure_cost(task, Data()) == Cost(active=15, total=15, flops=None)
    assert not task.network._forward_pre_hooks
