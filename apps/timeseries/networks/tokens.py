"""What causal forecasters over tokens have in common: heads for several horizons, and how they learn.

Shapes as in model.py.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from apps.timeseries.model import Forecaster, huber, moves, window_scale
from apps.timeseries.windows import Batch

LossOn = Literal["suffix", "every", "last"]


class TokenForecaster(Forecaster):
    """Reads each series as tokens, and from every token forecasts the points that follow it.

    A window is normalised by the mean and deviation of its own context.

    Args:
        patch: P, points a token.
        horizons: points that each head forecasts, multiples of ``patch``.
        loss_on: which tokens of the context learn to forecast what follows them. "suffix": those behind a
            random prefix, which alone sets the window's scale: as in use, no target has a share in its scale.
            "every" token, as the papers do, where the scale gives away part of what is to be forecast. Or the
            "last" one alone.
        delta: where the Huber loss turns from squares to absolute values, in deviations of the window.

    Raises:
        ValueError: horizons that are no multiples of a token, or an unknown loss_on.
    """

    def __init__(self, patch: int, horizons: Sequence[int], loss_on: LossOn, delta: float) -> None:
        super().__init__()
        if loss_on not in get_args(LossOn):
            raise ValueError(f"unknown loss_on {loss_on!r}: choose one of {', '.join(get_args(LossOn))}")
        if not horizons or any(h < 1 or h % patch for h in horizons):
            raise ValueError(f"horizons={list(horizons)} must be multiples of patch={patch}")
        self.patch, self.loss_on, self.delta = patch, loss_on, delta
        self.horizons = sorted(set(horizons))

    @abstractmethod
    def forward(self, values: Tensor, observed: Tensor, last: bool = False) -> list[Tensor]:
        """Forecast from every token, in the scale of the input.

        Args:
            values: (B, L) normalised values; what stands at missing points does not matter.
            observed: (B, L) bool.
            last: forecast from the last token alone.

        Returns:
            For each head (B, N, horizon), N = 1 if ``last``. L is filled up on the left to a multiple of P.
        """

    def forecast(self, context: Tensor, observed: Tensor, horizon: int) -> Tensor:
        """The next ``horizon`` points (B, H) of raw windows (B, L), by greedy head scheduling."""
        mean, scale = window_scale(context, observed)
        values, given = (context - mean) / scale, observed
        parts = []
        for size, used in greedy_schedule(horizon, self.horizons):
            step = self(values, given, last=True)[self.horizons.index(size)][:, 0]
            parts.append(step[:, :used])
            values = torch.cat([values, step], 1)[:, -context.shape[1] :]
            given = torch.cat([given, torch.ones_like(step, dtype=torch.bool)], 1)[:, -context.shape[1] :]
        return torch.cat(parts, 1) * scale * moves(context, observed) + mean

    def loss(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Huber loss of the forecasts of every head (Time-MoE, section 3.3), in deviations of the window."""
        patch, length = self.patch, batch["context"].shape[1]
        tokens = -(-length // patch)
        first = self._first_token(tokens)
        seen = length if self.loss_on == "every" else length - (tokens - 1 - first) * patch
        mean, scale = window_scale(batch["context"][:, :seen], batch["context_mask"][:, :seen])
        values, future = (batch["context"] - mean) / scale, (batch["target"] - mean) / scale
        forecasts = self(values, batch["context_mask"], last=self.loss_on == "last")
        losses = []
        for forecast in forecasts:
            target = following(values, future, patch, forecast.shape[2])[:, first:]
            mask = following(batch["context_mask"], batch["target_mask"], patch, forecast.shape[2])[:, first:]
            losses.append(huber(forecast[:, -target.shape[1] :], target, mask, self.delta))
        return torch.stack(losses).mean(), forecasts

    def _tokens(self, values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, zeros where missing, and bools as tokens (B, N, P); and (B, N) which tokens have any point.

        The last is None where all have.
        """
        short = -values.shape[1] % self.patch
        values = F.pad(values.masked_fill(~observed, 0.0), (short, 0)).view(len(values), -1, self.patch)
        observed = F.pad(observed, (short, 0)).view(len(values), -1, self.patch)
        real = observed.any(-1)
        return values, observed, None if bool(real.all()) else real

    def _first_token(self, tokens: int) -> int:
        """The first token that learns."""
        if self.loss_on == "suffix":
            return int(torch.randint(tokens // 2, tokens, ()))
        return 0 if self.loss_on == "every" else tokens - 1


def greedy_schedule(horizon: int, heads: Sequence[int]) -> list[tuple[int, int]]:
    """(head size, points kept) of each step: always the largest head that fits what remains.

    Where none fits, the smallest head is cut short. Source: Time-MoE (Shi et al. 2025), section 3.2.3.

    Raises:
        ValueError: the horizon is below 1.
    """
    if horizon < 1:
        raise ValueError(f"horizon={horizon} must be at least 1")
    steps = []
    while horizon:
        size = max((head for head in heads if head <= horizon), default=min(heads))
        used = min(size, horizon)
        steps.append((size, used))
        horizon -= used
    return steps


def following(context: Tensor, future: Tensor, patch: int, horizon: int) -> Tensor:
    """(B, N, horizon): for each token of the context (B, L), the points that come after it.

    Points beyond the end of the future (B, H) are zero, or False.
    """
    tokens = -(-context.shape[1] // patch)
    series = torch.cat([context, future], 1)
    left, right = tokens * patch - context.shape[1], max(0, horizon - future.shape[1])
    return F.pad(series, (left, right)).unfold(1, horizon, patch)[:, 1 : tokens + 1]
