"""Training on crops of all domains, and what validation tells of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from apps.common.errors import UserError
from apps.common.task import MoETask
from apps.pointcloud.crops import Batch
from apps.pointcloud.data import Data
from apps.pointcloud.features import NAMES, Scan
from apps.pointcloud.metrics import confusion, lovasz, miou
from apps.pointcloud.model import PointMoE


class Task(MoETask):
    """Cross-entropy, by how rare a class is, and the Lovasz loss, each a mean over the domains of a batch.

    Validation logs `val/miou_<domain>`, `val/miou`, their mean, and `val/loss`, one less that.

    Args:
        network: built when the domains are known.
        rare: a class weighs by its share of its domain's training cells to the power of minus this; 0 for all
            alike.
        balance: terms and their weights, as in MoETask; none by default.
        learning_rate, weight_decay, warmup_steps, final_fraction: see MoETask.
    """

    network: PointMoE

    def __init__(
        self,
        network: PointMoE,
        balance: dict[str, float | dict[str, Any]] | None = None,
        rare: float = 0.5,
        learning_rate: float = 4e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 20,
        final_fraction: float = 0.0,
    ) -> None:
        super().__init__(network, balance or {}, learning_rate, weight_decay, warmup_steps, final_fraction)
        self.rare, self.weights = rare, torch.ones(())
        self.counts: dict[int, np.ndarray] = {}

    def setup(self, stage: str) -> None:
        """Build the network for the features and classes of the data."""
        data: Data | None = getattr(self.trainer, "datamodule", None)
        if data is None:
            return
        sizes = data.features, len(data.sheet.classes), len(data.sheet.domains)
        self.build_network(self.network.build, *sizes)
        if stage == "fit":
            self.weights = weights_of(data.part("train"), data.classes, self.rare)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        scores, penalty = self.forward_with_balance(batch.points)
        loss = loss_of(scores, batch, self.weights)
        self.log("train/objective", loss.detach(), prog_bar=True, batch_size=len(batch.points.domain))
        total: Tensor = loss + penalty
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count what is told of cells."""
        told = self.network(batch.points).argmax(1).cpu().numpy()
        domain = batch.points.domain[batch.points.cloud].cpu().numpy()
        truth, classes = batch.label.cpu().numpy(), batch.points.classes.shape[1]
        for number in np.unique(domain):
            own = domain == number
            counts = confusion(truth[own], told[own], classes)
            self.counts[int(number)] = self.counts.get(int(number), 0) + counts

    def on_validation_epoch_end(self) -> None:
        """Measure every domain."""
        self._measure("val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same of test cells."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Measure them."""
        self._measure("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the size of the network."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["size"] = self.network.size

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the network, so that there is something to fill.

        Raises UserError where it was built for other features, domains or classes.
        """
        super().on_load_checkpoint(checkpoint)
        if checkpoint["size"][0] != len(NAMES):
            raise UserError("the checkpoint was trained on other features than there are now: train again.")
        if self.network.size is not None:
            self.trainer.datamodule.check(checkpoint["Data"])  # type: ignore[attr-defined]
        self.build_network(self.network.build, *checkpoint["size"])

    def _measure(self, part: str) -> None:
        counts, self.counts = self.counts, {}
        data: Data = self.trainer.datamodule  # type: ignore[attr-defined]
        each = {data.sheet.domains[number].name: miou(found) for number, found in sorted(counts.items())}
        for name, value in each.items():
            self.log(f"{part}/miou_{name}", value)
        mean = float(np.nanmean(list(each.values())))
        self.log(f"{part}/miou", mean, prog_bar=True)
        self.log(f"{part}/loss", 1 - mean)


def weights_of(scans: Sequence[Scan], classes: np.ndarray, rare: float) -> Tensor:
    """(D, C) weights of the classes of each domain, 0 for those that none of its cells has.

    Args:
        scans: that are trained on.
        classes: (D, C) bool.
        rare: power of a class's share.
    """
    counts = np.zeros(classes.shape)
    for scan in scans:
        counts[scan.domain] += np.bincount(scan.label[scan.label >= 0], minlength=classes.shape[1])
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return torch.from_numpy(np.where(counts > 0, np.maximum(share, 1e-12) ** -rare, 0).astype(np.float32))


def loss_of(scores: Tensor, batch: Batch, weights: Tensor) -> Tensor:
    """Weighted cross-entropy and Lovasz loss of the known cells, a mean over domains.

    Args:
        scores: (T, C).
        batch: with the labels.
        weights: (D, C) of the classes of each domain.
    """
    domain = batch.points.domain[batch.points.cloud]
    losses = []
    for number in torch.unique(batch.points.domain):
        own = (domain == number) & (batch.label >= 0)
        if own.any():
            some, label, weight = scores[own], batch.label[own], weights[number].to(scores)
            losses.append(F.cross_entropy(some, label, weight) + lovasz(some.softmax(1), label))
    return torch.stack(losses).mean() if losses else scores[:, 0].nan_to_num(0, 0, 0).sum() * 0
