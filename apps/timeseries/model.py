"""What every forecaster of this app can do; the networks themselves are in networks/.

Legend: B windows, L context length, N tokens, P points a token, D width, H horizon, Q levels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apps.common.errors import UserError
from apps.timeseries.windows import Batch, Windows


class Forecaster(nn.Module, ABC):
    """A network that the task can train, measure and predict with.

    Attributes:
        context, horizon: the rows that it reads, and the most that it forecasts; None where any will do.
    """

    context: int | None = None
    horizon: int | None = None

    @property
    def prepared_on(self) -> int:
        """How many windows `prepare` trains on, each as often as it is drawn; none by default."""
        return 0

    @abstractmethod
    def forecast(self, context: Tensor, observed: Tensor, horizon: int) -> Tensor:
        """The next ``horizon`` points (B, H) of windows (B, L), observed where the bools (B, L) are True."""

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The training loss of a batch, a scalar, and the forecasts on which it was taken."""

    def forecast_batch(self, batch: Batch, horizon: int) -> Tensor:
        """`forecast` of a batch's windows; a network whose windows see one another reads their groups too."""
        return self.forecast(batch["context"], batch["context_mask"], horizon)

    def prepare(self, train: Windows, validation: Windows) -> None:
        """Solve before training what is solved and not trained; nothing by default."""

    def settle(self, validation: Windows) -> dict[str, float]:
        """Choose, before each validation of training, what validation windows decide, and tell it by name.

        Nothing by default.
        """
        return {}


class Probabilistic(Forecaster):
    """A forecaster that also tells how sure it is."""

    @abstractmethod
    def quantiles(self, context: Tensor, observed: Tensor, horizon: int, levels: Tensor) -> Tensor:
        """Quantiles (B, H, Q) of each of the next points at ascending levels (Q,) between 0 and 1."""

    def quantiles_batch(self, batch: Batch, horizon: int, levels: Tensor) -> Tensor:
        """`quantiles` of a batch's windows, as `forecast_batch`."""
        return self.quantiles(batch["context"], batch["context_mask"], horizon, levels)


class WholeWindow(Forecaster):
    """A forecaster of windows of one length, which gives all of its horizon at once.

    Args:
        context: rows read, L.
        horizon: rows forecast, H; a shorter forecast is its beginning.
        horizons: those whose mean errors training lowers alike; H alone by default.

    Raises:
        ValueError: a horizon that is none, or beyond H.
    """

    step_weight: Tensor

    def __init__(self, context: int, horizon: int, horizons: Sequence[int] | None = None) -> None:
        super().__init__()
        self.context: int = context
        self.horizon: int = horizon
        weight = step_weights([horizon] if horizons is None else horizons, horizon)
        self.register_buffer("step_weight", weight, persistent=False)

    def weigh(self, mask: Tensor) -> Tensor:
        """How targets count in training, where the bools (B, H or fewer) are True: (B, H or fewer).

        Raises UserError for targets beyond the steps that this was made for.
        """
        return mask * self.step_weight[: self.within(mask.shape[1])]

    def forecast(self, context: Tensor, observed: Tensor, horizon: int) -> Tensor:
        """Return the first `horizon` steps, (B, horizon). Raises UserError beyond those it was made for."""
        steps: Tensor = self(context, observed)[:, : self.within(horizon)]
        return steps

    def within(self, horizon: int) -> int:
        """Return the horizon. Raises UserError where it is beyond the steps that this was made for."""
        if horizon > self.horizon:
            name = getattr(self, "name", type(self).__name__)
            raise UserError(f"this {name} forecasts {self.horizon} steps, not {horizon}: ask for fewer.")
        return horizon


def window_scale(context: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, 1) of the observed points of each window (B, L).

    A constant window has deviation 1, a window without any point mean 0.
    """
    weight = observed.to(context.dtype)
    points = weight.sum(1, keepdim=True).clamp(min=1)
    filled = context.masked_fill(~observed, 0.0)
    mean = filled.sum(1, keepdim=True) / points
    deviation = (((filled - mean) * weight).square().sum(1, keepdim=True) / points).sqrt()
    negligible = deviation <= 1e-6 * mean.abs().clamp(min=1e-6)
    return mean, torch.where(negligible, torch.ones_like(deviation), deviation)


def moves(context: Tensor, observed: Tensor) -> Tensor:
    """Whether the observed points of each window (B, L) differ, (B, 1) bool; what never moved is to stay."""
    low, high = context.masked_fill(~observed, torch.inf), context.masked_fill(~observed, -torch.inf)
    differ: Tensor = high.amax(1, keepdim=True) > low.amin(1, keepdim=True)
    return differ


def huber(forecast: Tensor, target: Tensor, weight: Tensor, delta: float) -> Tensor:
    """Mean Huber loss over points by their weight (B, H), or bools; zero where all have none."""
    loss = F.huber_loss(forecast, target.masked_fill(weight == 0, 0.0), reduction="none", delta=delta)
    return (loss * weight).sum() / weight.sum().clamp(min=torch.finfo(loss.dtype).tiny)


def squares(forecast: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Half the mean squared error over points by their weight (B, H), or bools; zero where all have none."""
    return huber(forecast, target, weight, torch.inf)


def step_weights(horizons: Sequence[int], longest: int) -> Tensor:
    """How steps (H,) count so that the mean squared errors of all horizons do alike; their mean is 1.

    Each horizon weighs the steps that it holds by 1 / its length. Raises ValueError for one that is none, or
    beyond the longest.
    """
    if not horizons or not all(1 <= horizon <= longest for horizon in horizons):
        raise ValueError(f"horizons={list(horizons)} must lie between 1 and horizon={longest}")
    step = torch.arange(longest)
    return torch.stack([(step < horizon) / horizon for horizon in horizons]).mean(0) * longest
