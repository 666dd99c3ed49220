"""Any network and a ridge, averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from apps.common.errors import UserError
from apps.timeseries.baselines import fill_forward, from_last
from apps.timeseries.blocks import blocks
from apps.timeseries.metrics import mse
from apps.timeseries.model import Forecaster, Probabilistic
from apps.timeseries.networks.ridge_moe import fill_with_ridge
from apps.timeseries.windows import Batch, Windows

SHARES = torch.linspace(0, 1, 11)


class BesideRidge(Forecaster):
    """forecast = (1 - share) ridge + share network: a linear map and a routed network err differently.

    The network is trained by itself, by its own loss. The ridge is that of `baselines`, solved in closed form
    before training and then frozen. The steps up to each horizon have a share of their own, settled at each
    validation, which logs it as `val/share_<horizon>`: the least one whose error is within one standard error
    of the least error. A long horizon has few windows that do not overlap, so that the network must be far
    ahead there to count; where there are not even two, the ridge alone forecasts. Where all windows start at
    one row, series take the place of blocks. Source: the one-standard-error rule of Breiman et al.,
    Classification and Regression Trees (1984), section 3.4.3, on blocks of windows.

    Args:
        network: forecasts windows of one context; its forecast may be the median of a distribution.
        context: rows read, L.
        horizon: the longest forecast, H.
        horizons: shorter ones with a ridge and a share of their own, see `fill_with_ridge`.
        share: of the network in all of the forecast, between 0 and 1, instead of those that are settled.

    Raises:
        ValueError: a horizon beyond H, or a share outside its range.
    """

    shares: Tensor

    def __init__(
        self,
        network: Forecaster,
        context: int,
        horizon: int,
        horizons: Sequence[int] = (),
        share: float | None = None,
    ) -> None:
        super().__init__()
        if not all(1 <= h <= horizon for h in horizons):
            raise ValueError(f"horizons={list(horizons)} must lie between 1 and horizon={horizon}")
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"share={share} must lie between 0 and 1")
        self.network, self.settles = network, share is None
        self.context: int = context
        self.horizon: int = horizon
        self.horizons = sorted({*horizons, horizon})
        self.weight = nn.Parameter(torch.zeros(context, horizon), requires_grad=False)
        self.register_buffer("shares", torch.full((horizon,), 0.5 if share is None else share))

    @property
    def patch(self) -> int:
        """Rows of a token of the network; the whole context where it has no tokens."""
        return int(getattr(self.network, "patch", self.context))

    @property
    def prepared_on(self) -> int:
        """Those of the network."""
        return self.network.prepared_on

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
        fill_with_ridge(self.weight, self.horizons, train, validation)
        self.network.prepare(train, validation)

    @torch.no_grad()
    def settle(self, validation: Windows) -> dict[str, float]:
        """Choose the share of the network in each step, one for the steps up to each horizon."""
        begin, chosen = 0, {}
        for end in self.horizons if self.settles else ():
            windows = validation.of_horizon(end)
            errors = torch.cat([self._errors(batch, begin, end) for batch in windows.batches(512)])
            if (
                windows.start == windows.start[0]
            ).all():  # nothing follows: the series are what is independent
                share = _least_share(errors, windows.channel, 1)
            else:
                share = _least_share(errors, windows.start, end)
            self.shares[begin:end] = chosen[f"share_{end}"] = share
            begin = end
        return chosen

    def forward(self, context: Tensor, observed: Tensor) -> Tensor:
        """The longest forecast (B, H) of context (B, L), observed where the bools (B, L) are True."""
        return self.forecast(context, observed, self.horizon)

    def loss(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """That of the network."""
        return self.network.loss(batch)

    def forecast(self, context: Tensor, observed: Tensor, horizon: int) -> Tensor:
        """The average. Raises UserError beyond the horizon of the ridge."""
        ridge = self._ridge(context, observed, horizon)
        return torch.lerp(ridge, self.network.forecast(context, observed, horizon), self.shares[:horizon])

    def forecast_batch(self, batch: Batch, horizon: int) -> Tensor:
        """The same, of a network whose windows see one another."""
        ridge = self._ridge(batch["context"], batch["context_mask"], horizon)
        return torch.lerp(ridge, self.network.forecast_batch(batch, horizon), self.shares[:horizon])

    def _ridge(self, context: Tensor, observed: Tensor, horizon: int) -> Tensor:
        if horizon > self.horizon:
            raise UserError(f"this network forecasts {self.horizon} steps, not {horizon}: ask for fewer.")
        if context.shape[1] != self.context:
            raise UserError(
                f"this network reads {self.context} rows, not {context.shape[1]}: make model and data alike."
            )
        return from_last(fill_forward(context, observed), self.weight[:, :horizon])

    def _errors(self, batch: Batch, begin: int, end: int) -> Tensor:
        """The squared error of the steps from begin to end with each of `SHARES`, (B, S), on the CPU."""
        here = cast(Batch, move_data_to_device(batch, self.weight.device))
        ridge = self._ridge(here["context"], here["context_mask"], end)[:, begin:]
        network = self.network.forecast_batch(here, end)[:, begin:]
        target, mask = here["target"][:, begin:], here["target_mask"][:, begin:]
        errors = [mse(torch.lerp(ridge, network, float(share)), target, mask) for share in SHARES]
        return torch.stack(errors, dim=1).cpu()


class DistributionBesideRidge(BesideRidge, Probabilistic):
    """The same of a network that tells how sure it is: its distribution, moved to where the average lies."""

    network: Probabilistic

    def __init__(
        self,
        network: Probabilistic,
        context: int,
        horizon: int,
        horizons: Sequence[int] = (),
        share: float | None = None,
    ) -> None:
        super().__init__(network, context, horizon, horizons, share)

    def quantiles(self, context: Tensor, observed: Tensor, horizon: int, levels: Tensor) -> Tensor:
        """Those of the network, each step moved by as much as the average lies off its point forecast."""
        own = self.network.quantiles(context, observed, horizon, levels)
        return own + self._off(self.network.forecast(context, observed, horizon), context, observed)

    def quantiles_batch(self, batch: Batch, horizon: int, levels: Tensor) -> Tensor:
        """The same, of a network whose windows see one another."""
        own = self.network.quantiles_batch(batch, horizon, levels)
        point = self.network.forecast_batch(batch, horizon)
        return own + self._off(point, batch["context"], batch["context_mask"])

    def _off(self, point: Tensor, context: Tensor, observed: Tensor) -> Tensor:
        """The average less the network's point forecast (B, H), (B, H, 1)."""
        horizon = point.shape[1]
        ridge = self._ridge(context, observed, horizon)
        return (torch.lerp(ridge, point, self.shares[:horizon]) - point).unsqueeze(-1)


def _least_share(errors: Tensor, place: Tensor, length: int) -> float:
    """The least share within one standard error of the best, of errors (W, S) of windows at places (W,).

    The standard error is that of the difference to the best share, over blocks of places a length long.
    """
    count = (int(place.max() - place.min()) + 1) // length
    if count < 2:
        return 0.0
    means, sizes = zip(*(blocks(error, place, count) for error in errors.T), strict=True)
    by_block = np.stack(means, axis=1)[sizes[0] > 0]
    excess = by_block - by_block[:, [by_block.mean(axis=0).argmin()]]
    deviation = excess.std(axis=0, ddof=1) / np.sqrt(len(excess)) if len(excess) > 1 else np.inf
    return float(SHARES[int((excess.mean(axis=0) <= deviation).argmax())])
