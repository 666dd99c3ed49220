"""Forecasts without a trained network: the last value, the last season, a linear map in closed form.

Shapes: B windows, L context, H horizon. All take context (B, L) and context_mask (B, L), True where observed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

    def of_last(self, rows: int) -> Moments:
        """Those of the last rows of the contexts."""
        return Moments(self.xx[-rows:, -rows:], self.xy[-rows:], self.yy)


@dataclass
class Ridge:
    """One linear map from context to horizon for all series, on windows less their last observed value.

    The weights minimise mean |y - x W|^2 + penalty |W|^2 over the training windows; the penalty is chosen by
    validation error. Solved from second moments, so that memory does not grow with the windows.
    Gaps are bridged by the last value before them. Source: NLinear (Zeng et al. 2023), solved in closed form.

    Windows may count by a power of their deviation: at 1 each counts alike in units of its own deviation,
    which a window of large swings dominates otherwise.

    The map may be a mean of maps: of one that reads all rows of the context, one that reads the last half,
    one that reads the last quarter, and so on, each with its own penalty and power; as many as validate best.
    Few rows are learned from few windows, many rows tell more.

    Attributes:
        weight: the map, (L, H).
        penalty, power: of the map that reads all rows.
        validation: its mean squared errors on validation windows, by power and penalty.
        means: the mean squared error there of the mean of 1, 2, ... maps.
    """

    weight: Tensor
    penalty: float
    power: float
    validation: dict[tuple[float, float], float]
    means: list[float]

    @classmethod
    def fit(
        cls,
        train: Windows,
        validation: Windows,
        penalties: Sequence[float] = PENALTIES,
        powers: Sequence[float] = (0.0,),
        halvings: int = 0,
    ) -> Ridge:
        """Solve on the training windows for each power and penalty, and keep what validates best.

        halvings: how often the rows of a further map may be half as many.
        """
        return cls.fit_each(train, validation, [train.horizon], penalties, powers, halvings)[train.horizon]

    @classmethod
    def fit_each(
        cls,
        train: Windows,
        validation: Windows,
        horizons: Sequence[int],
        penalties: Sequence[float] = PENALTIES,
        powers: Sequence[float] = (0.0,),
        halvings: int = 0,
    ) -> dict[int, Ridge]:
        """The same for each of some horizons, on all windows that have room for it."""
        held_out = moments_of_each(validation, horizons)
        seen = {power: moments_of_each(train, horizons, power) for power in powers}
        return {
            horizon: cls._best({p: each[horizon] for p, each in seen.items()}, told, penalties, halvings)
            for horizon, told in held_out.items()
        }

    @classmethod
    def _best(
        cls, seen: Mapping[float, Moments], held_out: Moments, penalties: Sequence[float], halvings: int
    ) -> Ridge:
        """The mean of maps that validates best."""
        lengths = [max(1, len(held_out.xx) >> n) for n in range(halvings + 1)]
        ridges = [
            cls._of_one_map(
                {power: each.of_last(rows) for power, each in seen.items()}, held_out.of_last(rows), penalties
            )
            for rows in lengths
        ]
        total = torch.zeros_like(held_out.xy)
        maps: list[Tensor] = []
        for rows, ridge in zip(lengths, ridges, strict=True):
            total[-rows:] += ridge.weight
            maps.append(total / (len(maps) + 1))
        means = [_error(weight, held_out) for weight in maps]
        return replace(ridges[0], weight=maps[means.index(min(means))].float(), means=means)

    @classmethod
    def _of_one_map(
        cls, seen: Mapping[float, Moments], held_out: Moments, penalties: Sequence[float]
    ) -> Ridge:
        maps = {
            (power, penalty): weight
            for power, of_power in seen.items()
            for penalty, weight in solve(of_power, penalties).items()
        }
        errors = {place: _error(weight, held_out) for place, weight in maps.items()}
        power, penalty = best = min(errors, key=errors.__getitem__)
        return cls(maps[best], penalty, power, errors, [errors[best]])

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
    return moments_of_each(windows, [windows.horizon], power, size)[windows.horizon]


def moments_of_each(
    windows: Windows, horizons: Sequence[int], power: float = 0.0, size: int = 4096
) -> dict[int, Moments]:
    """The same for each of some horizons; windows with room for a longer one are read once for all.

    A window counts for a horizon if a target is observed there or at a longer one.
    """
    context, longest = windows.context, max(horizons)
    xx = torch.zeros(context, context, dtype=torch.float64)
    xy = torch.zeros(context, longest, dtype=torch.float64)
    yy = torch.zeros(longest, dtype=torch.float64)
    count = torch.finfo(xx.dtype).tiny
    found: dict[int, Moments] = {}
    known: Windows | None = None
    for horizon in sorted(set(horizons), reverse=True):
        own = windows.of_horizon(horizon)
        fresh = own if known is None else own.without(known)
        for x, y in _normalised(fresh.batches(size)):
            deviation = window_scale(x, torch.ones_like(x, dtype=torch.bool))[1]
            weight = deviation.clamp(min=SMALLEST) ** -power
            count += float(weight.square().sum())
            x, y = x * weight, y * weight
            xx.addmm_(x.T, x)
            xy[:, :horizon].addmm_(x.T, y)
            yy[:horizon] += y.square().sum(0)
        found[horizon] = Moments(xx / count, xy[:, :horizon] / count, yy[:horizon].sum() / count)
        known = own
    return found


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
