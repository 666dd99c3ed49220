"""A toy training whose validation losses are told, for what chooses the best of them."""

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tests.apps.common.toy.toys.moons.model import Net
from tests.apps.common.toy.toys.moons.task import Task


class Rows(LightningDataModule):
    """Ten steps an epoch."""

    def __init__(self) -> None:
        super().__init__()
        x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
        self.rows = TensorDataset(x, x.sum(1, keepdim=True))

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.rows, batch_size=4)

    val_dataloader = train_dataloader


class Told(Task):
    """Validates by losses that are told, one an epoch."""

    def __init__(self, network: Net, losses: list[float]) -> None:
        super().__init__(network)
        self.losses, self.weights = losses, list[Tensor]()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.losses[self.current_epoch])

    def on_train_epoch_end(self) -> None:
        self.weights.append(self.network.leave.weight.detach().clone())
