"""Training a forecaster: losses, metrics, optimiser."""

from typing import Any, cast

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from apps.common.errors import UserError
from apps.common.task import MoETask
from apps.timeseries.metrics import mae, mse
from apps.timeseries.model import Forecaster
from apps.timeseries.windows import Batch

METRICS = {"mse": mse, "mae": mae}


class Task(MoETask):
    """The network's own loss, plus the balance terms.

    Validation logs `val/loss` and `val/mse`, the squared error of whole forecasts, and `val/mae`, all on the
    scale of the data module, and means over its horizons.

    Args:
        network: a forecaster, such as TimeMoE.
        balance, learning_rate, weight_decay, warmup_steps, final_fraction: see MoETask.
    """

    network: Forecaster

    def __init__(
        self,
        network: Forecaster,
        balance: dict[str, float | dict[str, Any]] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
        final_fraction: float = 0.0,
    ) -> None:
        super().__init__(network, balance, learning_rate, weight_decay, warmup_steps, final_fraction)
        self.errors = nn.ModuleDict()
        self.horizon: int | None = None

    def setup(self, stage: str) -> None:
        """Check that the data have the network's context, and reach as far as validation asks for."""
        data = getattr(self.trainer, "datamodule", None)
        horizon, context = getattr(data, "horizon", None), getattr(data, "context", None)
        reads, reaches = self.network.context, self.network.horizon
        if context is not None and reads is not None and context != reads:
            raise UserError(
                f"model.network reads {reads} rows and data.context is {context}: make the two alike."
            )
        if horizon is not None and reaches is not None and horizon > reaches:
            raise UserError(
                f"model.network forecasts {reaches} steps and data.horizon is {horizon}: make the two alike."
            )

    def on_fit_start(self) -> None:
        """Let the network solve what it does not train, unless a checkpoint has it."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None and self.trainer.ckpt_path is None:
            self.network.prepare(data.windows("train"), data.windows("validation"))

    def on_validation_epoch_start(self) -> None:
        """While it trains, let the network choose what validation decides."""
        data = getattr(self.trainer, "datamodule", None)
        training = self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking
        chosen = self.network.settle(data.windows("validation")) if data is not None and training else {}
        for name, value in chosen.items():
            self.log(f"val/{name}", value)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch of windows."""
        (loss, _), penalty = self.with_balance(self.network.loss, batch)
        self.log("train/objective", loss.detach(), prog_bar=True)
        return cast(Tensor, loss + penalty)

    def disagreement(self, output: tuple[Tensor, list[Tensor]], other: tuple[Tensor, list[Tensor]]) -> Tensor:
        """Half the squared distance: `balance.consistency` of Gaussians of one deviation of the window."""
        return torch.stack([F.mse_loss(a, b) / 2 for a, b in zip(output[1], other[1], strict=True)]).mean()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Errors of whole forecasts, by horizon; windows without an observed target have no share."""
        target, mask = batch["target"], batch["target_mask"]
        forecast = self.network.forecast_batch(batch, target.shape[1])
        for name, metric in METRICS.items():
            self._error(name, target.shape[1]).update(metric(forecast, target, mask))

    def on_validation_epoch_end(self) -> None:
        """Log the mean over horizons."""
        error = self._log_errors("val")
        self.log("val/loss", error)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The same on test windows."""
        self.validation_step(batch, batch_idx, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Log the mean over horizons."""
        self._log_errors("test")

    def _error(self, name: str, horizon: int) -> MeanMetric:
        """Where a metric of a horizon adds up."""
        key = f"{name}_{horizon}"
        if key not in self.errors:
            self.errors[key] = MeanMetric(nan_strategy="ignore").to(self.device)
        return cast(MeanMetric, self.errors[key])

    def _log_errors(self, stage: str) -> Tensor:
        """Log each metric, and return the first one; horizons at which nothing was observed have no share."""
        means = {}
        for name in METRICS:
            parts = [part for key, part in self.errors.items() if key.startswith(f"{name}_")]
            means[name] = torch.stack([cast(MeanMetric, part).compute() for part in parts]).nanmean()
            self.log(f"{stage}/{name}", means[name], prog_bar=name == "mse")
        self.errors.clear()
        return means["mse"]

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Forecasts (B, H) on the scale of the batch; H is ``self.horizon``, or else that of the target."""
        horizon = self.horizon or batch["target"].shape[1]
        return self.network.forecast_batch(batch, horizon)
