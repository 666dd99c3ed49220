"""The linear ridge with a normal distribution around its forecast: the floor for probabilistic networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from apps.timeseries.baselines import Ridge, fill_forward, from_last
from apps.timeseries.model import Probabilistic, WholeWindow, window_scale
from apps.timeseries.windows import Batch, Windows


class GaussianRidge(WholeWindow, Probabilistic):
    """The ridge of `baselines`, solved before training, and a deviation for each step of the horizon.

    A window's deviations are these times the deviation of its context. They begin as those of the validation
    windows, and training goes on with their likelihood.

    Args:
        context: rows read, L.
        horizon: rows forecast, H.
    """

    def __init__(self, context: int, horizon: int) -> None:
        super().__init__(context, horizon)
        self.weight = nn.Parameter(torch.zeros(context, horizon), requires_grad=False)
        self.log_deviation = nn.Parameter(torch.zeros(horizon))

    def prepare(self, train: Windows, validation: Windows) -> None:
        """Solve for the ridge, and measure its errors on the validation windows, step by step."""
        self.weight.copy_(Ridge.fit(train, validation).weight)
        squares, count = torch.zeros(self.horizon), torch.zeros(self.horizon)
        for batch in validation.batches(4096):
            squares += self._residual(batch).square().sum(0)
            count += batch["target_mask"].sum(0)
        self.log_deviation.data.copy_((squares / count.clamp(min=1)).clamp(min=1e-8).log() / 2)

    def forward(self, context: Tensor, context_mask: Tensor) -> Tensor:
        """Forecast context (B, L), observed where context_mask (B, L) is True. Returns (B, H)."""
        return from_last(fill_forward(context, context_mask), self.weight)

    def quantiles(self, context: Tensor, observed: Tensor, horizon: int, levels: Tensor) -> Tensor:
        """Quantiles (B, H, Q) of a normal distribution at ascending levels (Q,) between 0 and 1."""
        middle = self.forecast(context, observed, horizon)
        deviation = self.log_deviation[:horizon].exp() * window_scale(context, observed)[1]
        found: Tensor = middle.unsqueeze(-1) + deviation.unsqueeze(-1) * torch.special.ndtri(levels)
        return found

    def loss(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Negative log-likelihood of the residuals in deviations of the window, but for a constant."""
        steps = batch["target"].shape[1]
        log_deviation = self.log_deviation[:steps]
        surprise = (self._residual(batch) / log_deviation.exp()).square() / 2 + log_deviation
        mask = batch["target_mask"]
        forecast = self.forecast(batch["context"], batch["context_mask"], steps)
        return (surprise * mask).sum() / mask.sum().clamp(min=1), [forecast]

    def _residual(self, batch: Batch) -> Tensor:
        """Errors (B, H) in deviations of each window, zero where the target is missing."""
        target, mask = batch["target"], batch["target_mask"]
        forecast = self.forecast(batch["context"], batch["context_mask"], target.shape[1])
        scale = window_scale(batch["context"], batch["context_mask"])[1]
        return ((forecast - target) / scale).masked_fill(~mask, 0.0)
