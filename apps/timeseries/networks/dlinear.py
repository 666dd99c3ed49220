"""DLinear: a moving average, and one linear map each for it and for what is left."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from apps.timeseries.baselines import fill_forward
from apps.timeseries.model import WholeWindow, squares
from apps.timeseries.windows import Batch


class DLinear(WholeWindow):
    """Forecast trend and remainder by one linear map each, shared by all series.

    Source: Zeng et al. 2023, "Are Transformers Effective for Time Series Forecasting?", section 4.

    context: rows read, L. horizon: rows forecast, H. kernel: odd width of the moving average, in rows.
    horizons: as of WholeWindow.
    """

    def __init__(
        self, context: int, horizon: int, kernel: int = 25, horizons: Sequence[int] | None = None
    ) -> None:
        super().__init__(context, horizon, horizons)
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}")
        self.kernel = kernel
        self.trend = nn.Linear(context, horizon)
        self.remainder = nn.Linear(context, horizon)

    def forward(self, context: Tensor, context_mask: Tensor) -> Tensor:
        """Forecast context (B, L), observed where context_mask (B, L) is True. Returns (B, H)."""
        filled = fill_forward(context, context_mask)
        trend = moving_average(filled, self.kernel)
        forecast: Tensor = self.trend(trend) + self.remainder(filled - trend)
        return forecast

    def loss(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Half the squared error of the forecast."""
        forecast = self.forecast(batch["context"], batch["context_mask"], batch["target"].shape[1])
        return squares(forecast, batch["target"], self.weigh(batch["target_mask"])), [forecast]


def moving_average(values: Tensor, kernel: int) -> Tensor:
    """Centred mean over `kernel` rows of values (B, L), the ends repeated outwards. Returns (B, L)."""
    padded = F.pad(values.unsqueeze(1), (kernel // 2, kernel // 2), mode="replicate")
    return F.avg_pool1d(padded, kernel, stride=1).squeeze(1)
