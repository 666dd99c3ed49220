"""A ridge and a mixture of experts, averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from collegium import Context, check_causal, check_needs
from collegium.layer import moe_layers
from torch import Tensor, nn

from apps.common.controls import MixtureFFN, feed_forward
from apps.common.errors import UserError
from apps.timeseries.baselines import SMALLEST, Ridge, fill_forward, from_last
from apps.timeseries.model import WholeWindow, squares, window_scale
from apps.timeseries.window_kinds import band
from apps.timeseries.windows import Batch, Windows

Base = Literal["mean", "ridge"]

POWERS, HALVINGS = (0.0, 0.5, 1.0), 2
"""How windows may count in the ridge, and of how many maps it may be a mean; see `baselines.Ridge`."""


def fill_with_ridge(weight: Tensor, horizons: Sequence[int], train: Windows, validation: Windows) -> None:
    """Write a ridge into weight (L, H): the steps up to each of ascending horizons are of a ridge for it.

    A shorter horizon has more windows, and they are all used.
    """
    begin, maps = 0, Ridge.fit_each(train, validation, horizons, powers=POWERS, halvings=HALVINGS)
    for end in horizons:
        weight.data[:, begin:end] = maps[end].weight[:, begin:]
        begin = end


class RidgeMoE(WholeWindow):
    """The linear map that is best in closed form, and beside it a routed network.

    With last value l, mean m and deviation s of a window x, and v = V (x - m) / s of width D,

        ridge    = l + (x - l) W
        network  = base + s U (v + mixture(norm(v)))
        forecast = (1 - share) ridge + share network,

    where W (L, H) is the ridge of `baselines`, solved by `prepare` before training and then frozen, and U
    begins at zero. The base is m, and then two forecasters that err differently are averaged; or it is the
    ridge, and then the network learns what that leaves over. Which is better hangs on the data.
    A window is one token, so a router chooses experts for a whole window. It may ask for its `label`: the
    frequency band that rules the window (see apps.timeseries.window_kinds).

    The steps up to the first horizon are those of a ridge for that horizon, which has more windows than the
    longest, the steps up to the second those of a ridge for the second, and so on.

    Args:
        context: rows read, L.
        horizon: rows forecast, H; a shorter forecast is its beginning.
        horizons: those whose mean squared errors training lowers alike; H alone by default.
        dim: D.
        feed_forward: D -> the mixture.
        base: of the network, "mean" or "ridge".
        share: of the network in the forecast, between 0 and 1.
        dropout: share of (x - m) / s, and of what enters U, that is dropped in training.
        power: a window's squared error counts by s to the minus 2 ``power`` in training.

    Raises:
        ValueError: a horizon beyond H, an unknown base, a share outside its range, a router whose choice
            hangs on other windows or on what a window of one series does not tell.
    """

    def __init__(
        self,
        context: int,
        horizon: int,
        horizons: Sequence[int] | None = None,
        dim: int = 128,
        feed_forward: Callable[[int], nn.Module] = MixtureFFN,
        base: Base = "mean",
        share: float = 0.5,
        dropout: float = 0.3,
        power: float = 0.5,
    ) -> None:
        super().__init__(context, horizon, horizons)
        if base not in get_args(Base):
            raise ValueError(f"unknown base {base!r}: choose one of {', '.join(get_args(Base))}")
        if not 0 <= share <= 1:
            raise ValueError(f"share={share} must lie between 0 and 1")
        self.base, self.share, self.power = base, share, power
        self.horizons = sorted({*(horizons or []), horizon})
        self.weight = nn.Parameter(torch.zeros(context, horizon), requires_grad=False)
        self.embed = nn.Linear(context, dim)
        self.norm = nn.RMSNorm(dim)
        self.mixture = feed_forward(dim)
        self.head = nn.Linear(dim, horizon)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        check_causal(self)
        check_needs(self, ("label",))
        self.by_band = any("label" in layer.router.needs for layer in moe_layers(self).values())

    def prepare(self, train: Windows, validation: Windows) -> None:
        """Solve the ridge of each horizon, and take from it the steps that the one before did not reach.

        Raises:
            UserError: windows of a shorter horizon.
        """
        if self.horizon > train.horizon:
            raise UserError(
                f"this RidgeMoE forecasts {self.horizon} steps and data.horizon is {train.horizon}: make the "
                "two alike."
            )
        fill_with_ridge(self.weight, self.horizons, train, validation)

    def forward(self, context: Tensor, observed: Tensor) -> Tensor:
        """Forecast context (B, L), observed where the bools (B, L) are True. Returns (B, H)."""
        filled = fill_forward(context, observed)
        return torch.lerp(self.ridge(filled), self.network(filled), self.share)

    def ridge(self, filled: Tensor) -> Tensor:
        """The ridge's forecast (B, H) of contexts (B, L) without gaps."""
        return from_last(filled, self.weight)

    def network(self, filled: Tensor) -> Tensor:
        """The network's forecast (B, H) of contexts (B, L) without gaps."""
        mean, scale = window_scale(filled, torch.ones_like(filled, dtype=torch.bool))
        v = self.embed(self.dropout((filled - mean) / scale))
        context = Context(label=band(filled)) if self.by_band else None
        mixed, _ = feed_forward(self.mixture, self.norm(v), context)
        base = mean if self.base == "mean" else self.ridge(filled)
        scale = scale * (filled != filled[:, :1]).any(1, keepdim=True)  # what never moved stays as it is
        forecast: Tensor = base + scale * self.head(self.dropout(v + mixed))
        return forecast

    def loss(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Half the mean squared error of the network over the horizons, windows weighted by deviation.

        Raises:
            UserError: a target beyond the steps that it was made for.
        """
        weight = self.weigh(batch["target_mask"])
        forecast = self.network(fill_forward(batch["context"], batch["context_mask"]))[:, : weight.shape[1]]
        scale = window_scale(batch["context"], batch["context_mask"])[1]
        share = scale.clamp(min=SMALLEST) ** (-2 * self.power)
        return squares(forecast, batch["target"], weight * share / share.mean()), [forecast]
