"""From a token to what comes after it: what heads share, and one that forecasts quantiles.

Shapes: B windows, D width, A points forecast from one token, K parameters a point, S paths that are followed,
V series of the largest group, C values of a cloud (a predictive distribution), H horizon, Q levels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Head(nn.Module, ABC):
    """Forecasts the next ``ahead`` points of each token; a forecast is a cloud of C values a point.

    Args:
        dim: D.
        ahead: A.
        parameters: K.
        places: C ascending levels between 0 and 1 at which the sorted values of a cloud stand.

    Raises:
        ValueError: fewer than two places, or such as do not ascend between 0 and 1.
    """

    places: Tensor

    def __init__(self, dim: int, ahead: int, parameters: int, places: Sequence[float]) -> None:
        super().__init__()
        steps = zip([0.0, *places], [*places, 1.0], strict=True)
        if len(places) < 2 or not all(before < after for before, after in steps):
            raise ValueError(f"levels {list(places)} must be two or more that ascend between 0 and 1")
        self.ahead = ahead
        self.out = nn.Linear(dim, ahead * parameters)
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., A, K)."""
        parameters: Tensor = self.out(x).unflatten(-1, (self.ahead, -1))
        return parameters

    @abstractmethod
    def loss(self, parameters: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean loss of (..., A, K) over the targets (..., A) where mask is True; zero where there is none."""

    @abstractmethod
    def centre(self, parameters: Tensor) -> Tensor:
        """The one number that stands for each point, (..., A, K) to (..., A)."""

    def compared(self, parameters: Tensor) -> Tensor:
        """What two passes of training are compared by; the centre by default."""
        return self.centre(parameters)

    @abstractmethod
    def noise(self, series: int, steps: int) -> Tensor:
        """Random numbers (V, S, steps, ...) for the paths of so many series, the same at every call."""

    @abstractmethod
    def draw(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """From (B, S, A, K) and noise (B, S, ...): values of the cloud (B, C, A), and paths on (B, S, A)."""

    def point(self, cloud: Tensor) -> Tensor:
        """The point forecast (B, H) of a cloud (B, C, H): its median."""
        return self.quantiles(cloud, self.places.new_tensor([0.5]))[..., 0]

    def quantiles(self, cloud: Tensor, levels: Tensor) -> Tensor:
        """Quantiles (B, H, Q) of a cloud (B, C, H): lines between its sorted values, the end ones beyond."""
        cloud, levels = cloud.sort(1).values, levels.to(self.places)
        right = torch.searchsorted(self.places, levels).clamp(1, len(self.places) - 1)
        left = right - 1
        share = (levels - self.places[left]) / (self.places[right] - self.places[left])
        found = torch.lerp(cloud[:, left], cloud[:, right], share.clamp(0, 1)[:, None])
        return found.transpose(1, 2)


class QuantileHead(Head):
    """Some quantiles of each of the next points, by the pinball loss; further ones follow on the median.

    Quantiles that cross are sorted (Chernozhukov et al. 2010). Only the medians of one forecast are the
    context of the next, so that beyond ``patches`` quantiles lie too near one another.

    Args:
        dim, patch: D and P.
        patches: how many patches a token forecasts at once: A = P * patches.
        levels: ascending levels that are learned.

    Raises:
        ValueError: as `Head`.
    """

    def __init__(
        self,
        dim: int,
        patch: int,
        patches: int = 4,
        levels: Sequence[float] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    ) -> None:
        super().__init__(dim, patch * patches, len(levels), levels)

    def loss(self, parameters: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Twice the mean pinball loss, which is the absolute error at the median."""
        error = target.masked_fill(~mask, 0.0).unsqueeze(-1) - parameters
        loss = 2 * torch.maximum(self.places * error, (self.places - 1) * error).mean(-1)
        return (loss * mask).sum() / mask.sum().clamp(min=1)

    def centre(self, parameters: Tensor) -> Tensor:
        """The median."""
        values = parameters.flatten(0, -3).transpose(1, 2)
        return self.point(values).view(parameters.shape[:-1])

    def compared(self, parameters: Tensor) -> Tensor:
        """All quantiles, unsorted: sorting them would take a third of a training step."""
        return parameters

    def noise(self, series: int, steps: int) -> Tensor:
        """Nothing is drawn: one path."""
        return self.places.new_zeros(series, 1, steps)

    def draw(self, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The quantiles, and on along the median."""
        return parameters[:, 0].transpose(1, 2), self.centre(parameters)
