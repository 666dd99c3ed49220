"""Training a ranker: the loss of every task, and what validation tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from apps.common.errors import UserError
from apps.common.task import MoETask
from apps.recsys.data import Data
from apps.recsys.encoding import Sizes
from apps.recsys.impressions import Batch
from apps.recsys.metrics import auc, log_loss, mean_auc, of_known
from apps.recsys.model import Ranker


class Task(MoETask):
    """Cross-entropy, a mean over tasks and over their known labels.

    Validation logs `val/auc_<task>`, `val/auc`, the mean over tasks that have enough positives to tell
    (`metrics.mean_auc`), `val/log_loss`, and `val/loss`, one less the mean AUC.

    Args:
        network: built when the log is known.
        balance, learning_rate, weight_decay, warmup_steps, final_fraction: see MoETask.
    """

    network: Ranker

    def __init__(
        self,
        network: Ranker,
        balance: dict[str, float | dict[str, Any]] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        final_fraction: float = 0.0,
    ) -> None:
        super().__init__(network, balance or {}, learning_rate, weight_decay, warmup_steps, final_fraction)
        self.said: list[Tensor] = []
        self.labels: list[Tensor] = []

    def setup(self, stage: str) -> None:
        """Build the network for the columns and tasks of the log."""
        data: Data | None = getattr(self.trainer, "datamodule", None)
        if data is None:
            return
        groups = list(data.schema.groups.values())
        prior = data.part("train").batch.labels.nanmean(0).tolist()
        try:
            self.network.build(data.encoder.sizes, len(data.catalogue), groups, prior)
        except ValueError as error:
            raise UserError(f"model.network: {error}.") from error
        self.keep_biases()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        scores, penalty = self.forward_with_balance(batch)
        loss = cross_entropy(scores, batch.labels).mean()
        self.log("train/loss", loss.detach(), prog_bar=True)
        total: Tensor = loss + penalty
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Scores of validation rows."""
        self.said.append(self.network(batch).float().cpu())
        self.labels.append(batch.labels.cpu())

    def on_validation_epoch_end(self) -> None:
        """Measure them all."""
        self._measure("val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same of test rows."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Measure them all."""
        self._measure("test")

    def disagreement(self, output: Tensor, other: Tensor) -> Tensor:
        """Tell how far apart the scores of two passes are (THOR)."""
        return (output.sigmoid() - other.sigmoid()).square().mean()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the size of the network."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["size"] = self.network.size

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the network, so that there is something to fill.

        Raises UserError where it was built for another log.
        """
        super().on_load_checkpoint(checkpoint)
        if self.network.size not in (None, checkpoint["size"]):
            raise UserError(
                "the log has other tasks, features, or values of them, than the one that the checkpoint was "
                "trained on: train another on this log, or use predict."
            )
        (ids, values, tags), items, groups = checkpoint["size"]
        self.network.build(Sizes(ids, values, tags), items, groups)

    def _measure(self, part: str) -> None:
        scores, labels = torch.cat(self.said).numpy(), torch.cat(self.labels).numpy()
        self.said, self.labels = [], []
        tasks = self.network.tasks
        for place, name in enumerate(tasks):
            self.log(f"{part}/auc_{name}", of_known(auc, scores[:, place], labels[:, place]))
        mean = mean_auc(scores, labels)
        chances = 1 / (1 + np.exp(-scores))
        losses = [of_known(log_loss, chances[:, k], labels[:, k]) for k in range(len(tasks))]
        self.log(f"{part}/auc", mean, prog_bar=True)
        self.log(f"{part}/log_loss", float(np.nanmean(losses)))
        self.log(f"{part}/loss", 1 - mean)


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """(K,) the loss of each task: the mean over the rows whose label is known, 0 where none is."""
    known = ~labels.isnan()
    each = F.binary_cross_entropy_with_logits(scores, labels.nan_to_num(), reduction="none") * known
    return each.sum(0) / known.sum(0).clamp(min=1)
