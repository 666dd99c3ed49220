"""Training a forecaster: losses, metrics, optimiser."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from apps.common.errors import UserError
from apps.common.task import MoETask
from apps.timeseries.metrics import mae, mse
from apps.timeseries.model import Forecaster, TimeMoE, window_scale
from apps.timeseries.windows import Batch

METRICS = {"mse": mse, "mae": mae}
LossOn = Literal["suffix", "every", "last", "forecast"]


class Task(MoETask):
    """Huber loss on the forecasts of every head, plus the balance terms (Time-MoE, section 3.3).

    Validation logs `val/loss` and `val/mse`, the squared error of whole forecasts, and `val/mae`, all on the
    scale of the data module.

    Args:
        network: a forecaster, such as TimeMoE.
        loss_on: which tokens of the context learn to forecast what follows them. "suffix": those behind a
            random prefix, which alone sets the window's scale: as in use, no target has a share in its scale.
            "every" token, as in the paper, where the scale gives away part of what is to be forecast. The
            "last" one alone. Or the "forecast" itself, without balance terms, for networks without tokens.
        validation_horizons: horizons whose errors are averaged in validation; that of the data by default.
        delta: where the Huber loss turns from squares to absolute values, in deviations of the window.
        balance, learning_rate, weight_decay, warmup_steps, final_fraction: see MoETask.
    """

    network: Forecaster

    def __init__(
        self,
        network: Forecaster,
        loss_on: LossOn = "suffix",
        validation_horizons: Sequence[int] | None = None,
        delta: float = 2.0,
        balance: dict[str, float | dict[str, Any]] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
        final_fraction: float = 0.0,
    ) -> None:
        super().__init__(network, balance, learning_rate, weight_decay, warmup_steps, final_fraction)
        if loss_on != "forecast" and not isinstance(network, TimeMoE):
            raise ValueError(f"{type(network).__name__} has no tokens: set loss_on to 'forecast'")
        if loss_on == "forecast" and self.consistency:
            raise ValueError("model.balance.consistency wants the loss on tokens: set loss_on to 'suffix'")
        self.loss_on = loss_on
        self.delta = delta
        self.validation_horizons = list(validation_horizons or [])
        names = [f"{metric}_{horizon}" for metric in METRICS for horizon in self._horizons]
        self.errors = nn.ModuleDict({name: MeanMetric(nan_strategy="ignore") for name in names})
        self.horizon: int | None = None

    def setup(self, stage: str) -> None:
        """Check that the data reach as far as validation asks for."""
        horizon = getattr(getattr(self.trainer, "datamodule", None), "horizon", None)
        longest = max(self.validation_horizons, default=0)
        if horizon is not None and longest > horizon:
            raise UserError(
                f"model.validation_horizons asks for {longest} steps and data.horizon is {horizon}: "
                "lower the one or raise the other."
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch of windows."""
        if self.loss_on == "forecast":
            forecast = self.network.forecast(
                batch["context"], batch["context_mask"], batch["target"].shape[1]
            )
            loss = huber(forecast, batch["target"], batch["target_mask"], self.delta)
            penalty = torch.zeros_like(loss)
        else:
            loss, penalty = self._token_loss(batch)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss + penalty

    def _token_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert isinstance(self.network, TimeMoE)
        patch, length = self.network.patch, batch["context"].shape[1]
        tokens = -(-length // patch)
        first = self._first_token(tokens)
        seen = length if self.loss_on == "every" else length - (tokens - 1 - first) * patch
        mean, scale = window_scale(batch["context"][:, :seen], batch["context_mask"][:, :seen])
        values, future = (batch["context"] - mean) / scale, (batch["target"] - mean) / scale
        forecasts, penalty = self.forward_with_balance(
            values, batch["context_mask"], last=self.loss_on == "last"
        )
        losses = []
        for forecast in forecasts:
            target = following(values, future, patch, forecast.shape[2])[:, first:]
            mask = following(batch["context_mask"], batch["target_mask"], patch, forecast.shape[2])[:, first:]
            losses.append(huber(forecast[:, -target.shape[1] :], target, mask, self.delta))
        return torch.stack(losses).mean(), penalty

    def disagreement(self, output: list[Tensor], other: list[Tensor]) -> Tensor:
        """Half the squared distance: `balance.consistency` of Gaussians of one deviation of the window."""
        return torch.stack([F.mse_loss(a, b) / 2 for a, b in zip(output, other, strict=True)]).mean()

    def _first_token(self, tokens: int) -> int:
        """The first token that learns."""
        if self.loss_on == "suffix":
            return int(torch.randint(tokens // 2, tokens, ()))
        return 0 if self.loss_on == "every" else tokens - 1

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Errors of whole forecasts; windows without an observed target have no share."""
        for horizon in self._horizons:
            steps = batch["target"].shape[1] if isinstance(horizon, str) else horizon
            forecast = self.network.forecast(batch["context"], batch["context_mask"], steps)
            target, mask = batch["target"][:, :steps], batch["target_mask"][:, :steps]
            for name, metric in METRICS.items():
                self._error(name, horizon).update(metric(forecast, target, mask))

    def on_validation_epoch_end(self) -> None:
        """Log the mean over horizons."""
        error = self._log_errors("val")
        self.log("val/loss", error)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on test windows."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log the mean over horizons."""
        self._log_errors("test")

    @property
    def _horizons(self) -> Sequence[int | str]:
        return self.validation_horizons or ["all"]

    def _error(self, name: str, horizon: int | str) -> MeanMetric:
        return cast(MeanMetric, self.errors[f"{name}_{horizon}"])

    def _log_errors(self, stage: str) -> Tensor:
        """Log each metric, and return the first one; horizons at which nothing was observed have no share."""
        means = {}
        for name in METRICS:
            parts = [self._error(name, horizon) for horizon in self._horizons]
            means[name] = torch.stack([part.compute() for part in parts]).nanmean()
            for part in parts:
                part.reset()
            self.log(f"{stage}/{name}", means[name], prog_bar=name == "mse")
        return means["mse"]

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Forecasts (B, H) on the scale of the batch; H is ``self.horizon``, or else that of the target."""
        horizon = self.horizon or batch["target"].shape[1]
        forecast: Tensor = self.network.forecast(batch["context"], batch["context_mask"], horizon)
        return forecast


def following(context: Tensor, future: Tensor, patch: int, horizon: int) -> Tensor:
    """(B, N, horizon): for each token of the context (B, L), the points that come after it.

    Points beyond the end of the future (B, H) are zero, or False.
    """
    tokens = -(-context.shape[1] // patch)
    series = torch.cat([context, future], 1)
    left, right = tokens * patch - context.shape[1], max(0, horizon - future.shape[1])
    return F.pad(series, (left, right)).unfold(1, horizon, patch)[:, 1 : tokens + 1]


def huber(forecast: Tensor, target: Tensor, mask: Tensor, delta: float) -> Tensor:
    """Mean Huber loss over the points where mask is True; zero where there is none."""
    loss = F.huber_loss(forecast, target.masked_fill(~mask, 0.0), reduction="none", delta=delta)
    return (loss * mask).sum() / mask.sum().clamp(min=1)
