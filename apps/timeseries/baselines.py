"""Forecasts without a trained network: the last value, the last season, a linear map in closed form.

Shapes: B windows, L context, H horizon. All take context (B, L) and context_mask (B, L), True where observed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from apps.timeseries.model import window_scale
from apps.timeseries.windows import Batch, Windows

SMALLEST = 1e-2
"""A window counts as if it moved by no less, on the scale of the data, where windows count by deviation."""

PENALTIES = tuple(10.0**power for power in range(-5, 3))


def fill_forward(values: Tensor, mask: Tensor) -> Tensor:
    """Bridge gaps with the last value observed before them, and what comes before the first value with that.

    values, mask: (B, T). Rows without any observed value become zero.
    """
    if mask.all():
        return values
    step = torch.arange(values.shape[1], device=values.device).expand_as(values)
    latest = step.where(mask, -1).cummax(dim=1).values
    first = mask.int().argmax(dim=1, keepdim=True)
    filled = values.gather(1, latest.where(latest >= 0, first))
    return filled.where(mask.any(dim=1, keepdim=True), 0.0)


def repeat_last(context: Tensor, context_mask: Tensor, horizon: int) -> Tensor:
    """Repeat the last observed value. Returns (B, H)."""
    return fill_forward(context, context_mask)[:, -1:].expand(-1, horizon)


def seasonal_naive(context: Tensor, context_mask: Tensor, horizon: int, season: int) -> Tensor:
    """Repeat the last season, each step of it from the latest season that observed it. Returns (B, H).

    Where the context is shorter than a season, or no season observed a step, the last value is repeated.
    """
    batch, length = context.shape
    seasons = length // season
    last = repeat_last(context, context_mask, horizon)
    if seasons == 0:
        return last

    def by_phase(tensor: Tensor) -> Tensor:
        return (
            tensor[:, length - seasons * season :]
            .reshape(batch, seasons, season)
            .transpose(1, 2)
            .flatten(0, 1)
        )

    mask = by_phase(context_mask)
    cycle = fill_forward(by_phase(context), mask)[:, -1].view(batch, season)
    seen = mask.any(dim=1).view(batch, season)
    phase = torch.arange(horizon, device=context.device) % season
    return cycle[:, phase].where(seen[:, phase], last)


class Moments(NamedTuple):
    """Means over windows of products of normalised contexts x and targets y.

    xx: (L, L), xy: (L, H), yy: the mean of |y|^2, a scalar.
    """

    xx: Tensor
    xy: Tensor
    yy: Tensor


@dataclass
class Ridge:
    """One linear map from context to horizon for all series, on windows less their last observed value.

    The weights minimise mean |y - x W|^2 + penalty |W|^2 over the training windows; the penalty is chosen by
    validation error. Solved from second moments, so that memory does not grow with the windows.
    Gaps are bridged by the last value before them. Source: NLinear (Zeng et al. 2023), solved in closed form.

    Windows may count by a power of their deviation: at 1 each counts alike in units of its own deviation,
    which a window of large swings dominates otherwise.
    """

    weight: Tensor  # (L, H)
    penalty: float
    power: float
    validation: dict[tuple[float, float], float]  # mean squared error by power and penalty

    @classmethod
    def fit(
        cls,
        train: Windows,
        validation: Windows,
        penalties: Sequence[float] = PENALTIES,
        powers: Sequence[float] = (0.0,),
    ) -> Ridge:
        """Solve on the training windows for each power and penalty, and keep what validates best."""
        held_out = moments(validation)
        maps: dict[tuple[float, float], Tensor] = {}
        for power in powers:
            for penalty, weight in solve(moments(train, power), penalties).items():
                maps[power, penalty] = weight
        errors = {place: _error(weight, held_out) for place, weight in maps.items()}
        power, penalty = best = min(errors, key=errors.__getitem__)
        return cls(maps[best].float(), penalty, power, errors)

    def __call__(self, context: Tensor, context_mask: Tensor) -> Tensor:
        """Forecast. Returns (B, H)."""
        return from_last(fill_forward(context, context_mask), self.weight)


def from_last(filled: Tensor, weight: Tensor) -> Tensor:
    """Forecast l + (x - l) W, (B, H), for windows x (B, L) without gaps, last values l and a map W (L, H)."""
    last = filled[:, -1:]
    return last + (filled - last) @ weight.to(filled)


def moments(windows: Windows, power: float = 0.0, size: int = 4096) -> Moments:
    """Accumulate the second moments of all windows in float64, a chunk at a time.

    A window counts by its deviation to the minus 2 ``power``.
    """
    context, horizon = windows.context, windows.horizon
    xx = torch.zeros(context, context, dtype=torch.float64)
    xy = torch.zeros(context, horizon, dtype=torch.float64)
    yy = torch.zeros((), dtype=torch.float64)
    count = 0.0
    for x, y in _normalised(windows.batches(size)):
        deviation = window_scale(x, torch.ones_like(x, dtype=torch.bool))[1]
        weight = deviation.clamp(min=SMALLEST) ** -power
        count += float(weight.square().sum())
        x, y = x * weight, y * weight
        xx.addmm_(x.T, x)
        xy.addmm_(x.T, y)
        yy += y.square().sum()
    count = max(count, torch.finfo(xx.dtype).tiny)
    return Moments(xx / count, xy / count, yy / count)


def solve(seen: Moments, penalties: Sequence[float]) -> dict[float, Tensor]:
    """Return the ridge weights (L, H) for each penalty, from one eigendecomposition."""
    spectrum, basis = torch.linalg.eigh(seen.xx)
    spectrum, projected = spectrum.clamp(min=0), basis.T @ seen.xy
    return {p: basis @ (projected / (spectrum + p).unsqueeze(1)) for p in penalties}


def _error(weight: Tensor, held_out: Moments) -> float:
    """Mean squared error over held-out windows, from their moments."""
    total = held_out.yy - 2 * (weight * held_out.xy).sum() + (weight * (held_out.xx @ weight)).sum()
    return float(total / weight.shape[1])


def _normalised(batches: Iterator[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in batches:
        values = torch.cat([batch["context"], batch["target"]], dim=1).double()
        mask = torch.cat([batch["context_mask"], batch["target_mask"]], dim=1)
        filled = fill_forward(values, mask)
        length = batch["context"].shape[1]
        filled = filled - filled[:, length - 1 : length]
        yield filled[:, :length], filled[:, length:]
