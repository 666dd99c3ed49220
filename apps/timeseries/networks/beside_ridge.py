"""Any network and a ridge, averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from apps.common.errors import UserError
from apps.timeseries.baselines import fill_forward, from_last
from apps.timeseries.model import Forecaster
from apps.timeseries.networks.ridge_moe import solve
from apps.timeseries.windows import Batch, Windows


class BesideRidge(Forecaster):
    """forecast = (1 - share) ridge + share network: a linear map and a routed network err differently.

    The network is trained by itself, by its own loss. The ridge is that of `baselines`, solved in closed form
    before training and then frozen.

    Args:
        network: forecasts windows of one context; its forecast may be the median of a distribution.
        context: rows read, L.
        horizon: the longest forecast, H.
        horizons: shorter ones with a ridge of their own, see `solve`.
        share: of the network in the forecast, between 0 and 1.

    Raises:
        ValueError: a horizon beyond H, or a share outside its range.
    """

    def __init__(
        self,
        network: Forecaster,
        context: int,
        horizon: int,
        horizons: Sequence[int] = (),
        share: float = 0.5,
    ) -> None:
        super().__init__()
        if not all(1 <= h <= horizon for h in horizons):
            raise ValueError(f"horizons={list(horizons)} must lie between 1 and horizon={horizon}")
        if not 0 <= share <= 1:
            raise ValueError(f"share={share} must lie between 0 and 1")
        self.network, self.context, self.horizon, self.share = network, context, horizon, share
        self.horizons = sorted({*horizons, horizon})
        self.weight = nn.Parameter(torch.zeros(context, horizon), requires_grad=False)

    def prepare(self, train: Windows, validation: Windows) -> None:
        """Solve the ridge, and let the network prepare.

        Raises:
            UserError: windows of another context or a shorter horizon.
        """
        if self.horizon > train.horizon or self.context != train.context:
            raise UserError(
                f"this network reads {self.context} rows and forecasts {self.horizon}, the windows have "
                f"{train.context} and {train.horizon}: make model and data alike."
            )
        solve(self.weight, self.horizons, train, validation)
        self.network.prepare(train, validation)

    def forward(self, context: Tensor, observed: Tensor) -> Tensor:
        """The longest forecast (B, H) of context (B, L), observed where the bools (B, L) are True."""
        return self.forecast(context, observed, self.horizon)

    def loss(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """That of the network."""
        return self.network.loss(batch)

    def forecast(self, context: Tensor, observed: Tensor, horizon: int) -> Tensor:
        """The average. Raises UserError beyond the horizon of the ridge."""
        return self._beside(self.network.forecast(context, observed, horizon), context, observed, horizon)

    def forecast_batch(self, batch: Batch, horizon: int) -> Tensor:
        """The same, of a network whose windows see one another."""
        network = self.network.forecast_batch(batch, horizon)
        return self._beside(network, batch["context"], batch["context_mask"], horizon)

    def _beside(self, network: Tensor, context: Tensor, observed: Tensor, horizon: int) -> Tensor:
        if horizon > self.horizon or context.shape[1] != self.context:
            raise UserError(
                f"this network reads {self.context} rows and forecasts {self.horizon}, not "
                f"{context.shape[1]} and {horizon}: ask for fewer, or train another."
            )
        ridge = from_last(fill_forward(context, observed), self.weight[:, :horizon])
        return torch.lerp(ridge, network, self.share)
