"""Training, all together or in stages: experts, then critics, then the mixture, then all together."""

from typing import Any, Literal

import torch
from collegium.evidence import evidential_loss
from torch import Tensor, nn
from torchmetrics import MeanSquaredError

from apps.common.errors import UserError
from apps.common.task import MoETask
from apps.lidar.data import Batch
from apps.lidar.model import OUTPUTS, Estimate, EvidenceMoE, Heard, grade

Stage = Literal["experts", "critics", "mixture", "joint"]
EXPERT, CRITIC = 0.5, 0.1
"""Weights of the experts' errors and of the critics' losses beside the error of the mixture."""
RAMP, MOST = 0.2, 1e-4
"""Share of training in which the regulariser of evidence rises, once critics learn, and how far. The error of
a noisy histogram is a matter of chance: at 1, as where labels are certain, no grade has evidence."""


class Task(MoETask):
    """Squared errors of depth and lifetime, in units of their ranges, and the evidential loss of the critics.

    Training logs their sum as `train/objective`. Validation logs `val/loss`, the mean of both squared errors,
    and `val/nrmse_depth` and `val/nrmse_lifetime`.

    Args:
        network: EvidenceMoE, or any network from readings to outputs (B, 2).
        stages: shares of training after which critics, mixture, and all together begin to learn, of
            EvidenceMoE; all from the beginning by default.
        balance: terms and their weights, as in MoETask; none by default.
        learning_rate, weight_decay, warmup_steps, final_fraction: see MoETask.

    Raises:
        ValueError: shares that do not rise between 0 and 1.
    """

    def __init__(
        self,
        network: nn.Module,
        stages: tuple[float, float, float] = (0.0, 0.0, 0.0),
        balance: dict[str, float | dict[str, Any]] | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-4,
        warmup_steps: int = 100,
        final_fraction: float = 0.0,
    ) -> None:
        super().__init__(network, balance or {}, learning_rate, weight_decay, warmup_steps, final_fraction)
        if not 0 <= stages[0] <= stages[1] <= stages[2] <= 1:
            raise ValueError(f"stages={list(stages)} must rise between 0 and 1")
        self.stages = tuple(stages)
        self.errors = MeanSquaredError(num_outputs=len(OUTPUTS))

    def setup(self, stage: str) -> None:
        """Refuse data of other bins than the network reads."""
        data = getattr(self.trainer, "datamodule", None)
        bins = getattr(self.network, "bins", None)
        if data is not None and bins not in (None, data.clock.bins):
            raise UserError(
                f"model.network reads {bins} bins and data.bins is {data.clock.bins}: make the two alike."
            )

    @property
    def stage(self) -> Stage:
        """What learns now."""
        total = self._total_steps()
        done = self.global_step / total if total > 0 else 1.0
        names: tuple[Stage, ...] = ("experts", "critics", "mixture", "joint")
        return names[sum(done >= end for end in self.stages)]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        loss, penalty = self.with_balance(self._loss, batch)
        self.log("train/objective", loss.detach(), prog_bar=True)
        total: Tensor = loss + penalty
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Errors of validation histograms."""
        self.errors.update(self.outputs(batch).contiguous(), batch.target)

    def on_validation_epoch_end(self) -> None:
        """Log the errors of all of them."""
        self._log_errors("val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on test histograms."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log them."""
        self._log_errors("test")

    def outputs(self, batch: Batch) -> Tensor:
        """What the network says, (B, 2)."""
        found = self.network(batch.reading)
        return found.value if isinstance(found, Estimate) else torch.as_tensor(found)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the stage of training."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["stage"] = self.stage

    def _log_errors(self, part: str) -> None:
        square = self.errors.compute()
        self.errors.reset()
        self.log(f"{part}/loss", square.mean(), prog_bar=True)
        for name, value in zip(OUTPUTS, square.sqrt(), strict=True):
            self.log(f"{part}/nrmse_{name}", value, prog_bar=True)

    def _loss(self, batch: Batch) -> Tensor:
        if not isinstance(self.network, EvidenceMoE):
            return torch.as_tensor(self.network(batch.reading) - batch.target).square().mean()
        stage, heard = self.stage, self.network.listen(batch.reading)
        experts = self._experts(heard, batch.target)
        if stage == "experts":
            return experts
        if stage != "joint":
            heard = heard.detached()
        found = self.network.judge(heard)
        critics = self._critics(self.network.judge(heard.detached()), batch.target)
        if stage == "critics":
            return critics
        mixture = (found.value - batch.target).square().mean()
        if stage == "mixture":
            return mixture + CRITIC * critics
        return mixture + EXPERT * experts + CRITIC * critics

    def _experts(self, heard: Heard, target: Tensor) -> Tensor:
        """Mean squared error of the experts that were asked."""
        asked = (heard.prior > 0).unsqueeze(-1)
        return ((heard.said - target.unsqueeze(1)).square() * asked).mean() / asked.float().mean()

    def _critics(self, found: Estimate, target: Tensor) -> Tensor:
        error = (target.unsqueeze(1) - found.said).detach()
        since = self.global_step / max(self._total_steps(), 1) - self.stages[0]
        regulariser = MOST * min(1.0, max(0.0, since / RAMP))
        missed = (target - found.value).detach()
        if isinstance(self.network, EvidenceMoE) and self.network.training:
            self.network.note(missed)
        grades = evidential_loss(found.evidence, grade(error), regulariser)
        whole = evidential_loss(found.judged, grade(missed), regulariser)
        return grades + whole + (found.correction - error).square().mean()
