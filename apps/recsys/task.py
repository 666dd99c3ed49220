"""Training a ranker by the loss of every task, or a recommender by its own; and what validation tells."""

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
from apps.recsys.metrics import auc, hits, log_loss, mean_auc, ndcg, of_known
from apps.recsys.model import Ranker
from apps.recsys.ranked import TOP, ranks_of, unseen_only
from apps.recsys.recommender import Recommender


class Task(MoETask):
    """Cross-entropy of impressions, a mean over tasks and over their known labels; or a recommender's loss.

    Of impressions validation logs `val/auc_<task>`, `val/auc`, the mean over tasks that have enough positives
    to tell (`metrics.mean_auc`), `val/log_loss`, and `val/loss`, one less the mean AUC. Of the next item it
    logs `val/hr_10`, `val/ndcg_10`, and `val/loss`, one less the latter, or NaN as long as the network is not
    ready to be kept.

    Args:
        network: built when the log is known.
        balance: terms and their weights, as in MoETask; none by default.
        learning_rate, weight_decay, warmup_steps, final_fraction: see MoETask.
    """

    network: Ranker | Recommender

    def __init__(
        self,
        network: Ranker | Recommender,
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
        if data.next_item != isinstance(self.network, Recommender):
            wanted, other = ("next_item", "impressions")[:: 1 if not data.next_item else -1]
            raise UserError(
                f"{type(self.network).__name__} is for data.protocol {wanted}, and it is {other}: change one."
            )
        self.build_network(self._build, data, stage)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of one batch, rows or windows."""
        if isinstance(self.network, Recommender):
            self.network.progress = self.global_step / max(self._total_steps(), 1)
            loss, penalty = self.with_balance(self.network.loss, batch)
        else:
            scores, penalty = self.forward_with_balance(batch)
            loss = cross_entropy(scores, batch.labels).mean()
        self.log("train/objective", loss.detach(), prog_bar=True)
        total: Tensor = loss + penalty
        return total

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Scores of validation rows, or the ranks of the items that came."""
        if isinstance(self.network, Recommender):
            scores = unseen_only(self.network.scores(batch), batch)
            self.said.append(ranks_of(scores, batch.target).cpu())
        else:
            self.said.append(self.network(batch).float().cpu())
            self.labels.append(batch.labels.cpu())

    def on_validation_epoch_end(self) -> None:
        """Measure them all."""
        self._measure("val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """The same of test rows."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Measure them all."""
        self._measure("test")

    def disagreement(self, output: Tensor, other: Tensor) -> Tensor:
        """Tell how far apart the scores of two passes are (THOR). A recommender has none in training."""
        if isinstance(self.network, Recommender):
            return super().disagreement(output, other)
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
        sizes, *others = checkpoint["size"]
        self.build_network(self.network.build, Sizes(*sizes), *others)

    def _build(self, data: Data, stage: str) -> None:
        sizes, items = data.encoder.sizes, len(data.catalogue)
        if isinstance(self.network, Recommender):
            new = self.network.size is None
            self.network.build(sizes, items, data.history)
            if new and stage == "fit" and data.contents is not None:
                self.network.study(data.walks("train").walk, data.contents)
            return
        prior = data.part("train").batch.labels.nanmean(0).tolist()
        self.network.build(sizes, items, list(data.schema.groups.values()), prior)

    def _measure(self, part: str) -> None:
        said, self.said = torch.cat(self.said).numpy(), []
        if isinstance(self.network, Recommender):
            gain = float(ndcg(said, TOP).mean())
            self.log(f"{part}/hr_{TOP}", float(hits(said, TOP).mean()), prog_bar=True)
            self.log(f"{part}/ndcg_{TOP}", gain, prog_bar=True)
            self.log(f"{part}/loss", 1 - gain if self.network.ready else float("nan"))
            return
        scores, labels = said, torch.cat(self.labels).numpy()
        self.labels = []
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
