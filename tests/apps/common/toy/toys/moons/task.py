import time
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import mse_loss
from torchmetrics import MeanMetric

from apps.common.task import MoETask

from .model import Net


class Task(MoETask):
    """Regression on points.

    `plateau` exchanges the schedule; `diary` is a file that notes each step, which then waits `slow` seconds.
    """

    def __init__(
        self,
        network: Net,
        balance: dict[str, float | dict[str, Any]] | None = None,
        learning_rate: float = 0.05,
        warmup_steps: int = 3,
        plateau: Literal["", "step", "epoch"] = "",
        diary: Path | None = None,
        slow: float = 0.0,
    ) -> None:
        super().__init__(network, balance, learning_rate, warmup_steps=warmup_steps)
        self.plateau, self.diary, self.slow = plateau, diary, slow
        self.error = MeanMetric()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self._note("train")
        y, penalty = self.forward_with_balance(batch[0])
        loss = mse_loss(y, batch[1])
        self.log("train/loss", loss)
        return loss + penalty

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._note("validate")
        loss = mse_loss(self.network(batch[0]), batch[1])
        self.log("val/loss", loss, batch_size=len(batch[0]))
        self.error.update(loss, len(batch[0]))
        self.log("val/error", self.error)  # unlike the loss, of all processes together

    def configure_optimizers(self) -> OptimizerLRScheduler:
        chosen: Any = super().configure_optimizers()
        if self.plateau:
            schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
                chosen["optimizer"], patience=0, threshold=0.3
            )
            chosen["lr_scheduler"] = {
                "scheduler": schedule,
                "monitor": "val/loss",
                "interval": self.plateau,
                "strict": False,
            }
        return chosen

    def _note(self, stage: str) -> None:
        if self.diary and not self.trainer.sanity_checking:
            with self.diary.open("a") as file:
                file.write(f"{stage} {self.global_step}\n")
            time.sleep(self.slow)
