"""Windows of (context, horizon) over many series, read a batch at a time.

Shapes: C series, N rows of all series in one line, W windows, B windows in a batch, L context, H horizon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from apps.common.errors import UserError
from apps.common.loaders import as_it_is
from apps.timeseries.clock import hour_and_weekday
from apps.timeseries.scaler import Scaler
from apps.timeseries.tables import Table


class Batch(TypedDict):
    """Windows of single series, on the scale of the scaler; zeros where a value is missing.

    context (B, L), target (B, H) float32; context_mask, target_mask bool, True where observed;
    channel (B,) series, start (B,) first row of the context in its table, hour and weekday (B,) of the last
    row of the context (-1 where there is no clock), group (B,), the same number for windows that may see one
    another, which stand in a row, all int64.
    """

    context: Tensor
    context_mask: Tensor
    target: Tensor
    target_mask: Tensor
    channel: Tensor
    start: Tensor
    hour: Tensor
    weekday: Tensor
    group: Tensor


class Line(NamedTuple):
    """All series end to end. values float32, observed bool, hour, weekday int8: (N,); first: (C + 1,)."""

    values: Tensor
    observed: Tensor
    hour: Tensor
    weekday: Tensor
    first: Tensor


FAR = 1e18
"""Deviations from the mean beyond which squares overflow in single precision."""


def as_line(tables: Sequence[Table], scaler: Scaler) -> Line:
    """Scale all series and lay them end to end. Raises UserError where a value lies too far off."""
    values, hours, weekdays, lengths = [], [], [], []
    for table in tables:
        hour, weekday = hour_and_weekday(table.index, table.frequency)
        for column in table.values.T:
            values.append(column)
            hours.append(hour)
            weekdays.append(weekday)
            lengths.append(len(column))
    raw = torch.from_numpy(np.concatenate(values))
    channel = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    scaled = scaler.scale(raw, channel).nan_to_num(0.0)
    if len(far := (scaled.abs() > FAR).nonzero()):
        names = [(table.source, name) for table in tables for name in table.names]
        source, name = names[int(channel[far[0]])]
        raise UserError(
            f"{source}: '{name}' holds {float(raw[far[0]]):.3g}, over {FAR:.0e} deviations from its mean in "
            "training: correct it, or leave the cell blank."
        )
    return Line(
        values=scaled.float(),
        observed=~raw.isnan(),
        hour=torch.from_numpy(np.concatenate(hours)).to(torch.int8),
        weekday=torch.from_numpy(np.concatenate(weekdays)).to(torch.int8),
        first=torch.tensor([0, *np.cumsum(lengths)]),
    )


def table_of_each(tables: Sequence[Table]) -> list[int]:
    """For each series in the order of the line, the number of its table."""
    return [number for number, table in enumerate(tables) for _ in table.names]


class Windows(Dataset[Batch]):
    """Every window inside the given rows of each series, ordered by span, then by start.

    spans: rows (begin, end) of a series that windows may touch; channels: the series of each, by default one
    span a series in their order. stride: rows between starts.
    horizon: 0 for windows that have no target (prediction). Windows with no observed target are left out.
    tables: for each series the number of its table, not falling: then the windows of one table and start are
    a group, and the order is by table, start, series. Without it each window is a group by itself.
    Raises ValueError where all series together are shorter than one window.
    """

    def __init__(
        self,
        line: Line,
        spans: Sequence[tuple[int, int]],
        context: int,
        horizon: int,
        stride: int = 1,
        channels: Sequence[int] | None = None,
        tables: Sequence[int] | None = None,
    ) -> None:
        self.line, self.context, self.horizon = line, context, horizon
        self._places = spans, stride, channels, tables
        length = context + horizon
        if len(line.values) < length:
            raise ValueError(f"no window of {length} rows fits into {len(line.values)} rows")
        starts = [torch.arange(begin, max(begin, end - length + 1), stride) for begin, end in spans]
        series = torch.tensor(range(len(spans)) if channels is None else channels)
        self.channel = series.repeat_interleave(torch.tensor([len(s) for s in starts]))
        self.start = torch.cat(starts)
        if horizon and not line.observed.all():
            keep = self._observed_targets() > 0
            self.channel, self.start = self.channel[keep], self.start[keep]
        self.group = torch.arange(len(self.start)) if tables is None else self._by_table(tables)
        self._window = line.values.unfold(0, length, 1)
        self._observed = line.observed.unfold(0, length, 1)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int] | Tensor) -> Batch:
        """Read the windows of one batch."""
        index = torch.as_tensor(rows)
        channel, start = self.channel[index], self.start[index]
        position = self.line.first[channel] + start
        values, observed = self._window[position], self._observed[position]
        end = position + self.context - 1
        return Batch(
            context=values[:, : self.context],
            context_mask=observed[:, : self.context],
            target=values[:, self.context :],
            target_mask=observed[:, self.context :],
            channel=channel,
            start=start,
            hour=self.line.hour[end].long(),
            weekday=self.line.weekday[end].long(),
            group=self.group[index],
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """Go through all windows in order, about `size` at a time, no group in two batches."""
        groups = Groups(self)
        some = groups.holding(size)
        for first in range(0, len(groups), some):
            yield groups.__getitems__(torch.arange(first, min(first + some, len(groups))))

    def groups_of(self, rows: Tensor) -> tuple[Batch, Tensor]:
        """All windows of the groups of some rows (R,), as a batch, and where those stand in it, (R,)."""
        together = torch.isin(self.group, self.group[rows]).nonzero().flatten()
        return self.__getitems__(together), torch.searchsorted(together, rows)

    def of_horizon(self, horizon: int) -> Windows:
        """The windows of the same rows with another horizon: the shorter it is, the more there are."""
        spans, stride, channels, tables = self._places
        return Windows(self.line, spans, self.context, horizon, stride, channels, tables)

    def place(self, channel: Tensor, start: Tensor) -> Tensor:
        """One number for each series and first row, by which windows of unlike horizons are told alike."""
        return channel * len(self.line.values) + start

    def without(self, other: Windows) -> Windows:
        """The windows that another set of windows of the same rows has not; each a group by itself."""
        known = torch.isin(self.place(self.channel, self.start), self.place(other.channel, other.start))
        fewer = copy(self)
        fewer.channel, fewer.start = self.channel[~known], self.start[~known]
        fewer.group = torch.arange(len(fewer.start))
        return fewer

    def _by_table(self, tables: Sequence[int]) -> Tensor:
        """Order the windows by table, start and series, and return the group of each, (W,)."""
        place = self.place(torch.as_tensor(tables)[self.channel], self.start)
        place, order = place.sort(stable=True)
        self.channel, self.start = self.channel[order], self.start[order]
        return (place.diff(prepend=place[:1]) != 0).cumsum(0)

    def _observed_targets(self) -> Tensor:
        """How many values of each window's target are observed, (W,)."""
        seen = torch.cat([torch.zeros(1, dtype=torch.long), self.line.observed.long().cumsum(0)])
        target = self.line.first[self.channel] + self.start + self.context
        return seen[target + self.horizon] - seen[target]


class Groups(Dataset[Batch]):
    """The same windows by whole groups, for loaders: an item is all windows of one group."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.sizes = windows.group.bincount()
        self.first = self.sizes.cumsum(0) - self.sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitems__(self, groups: Sequence[int] | Tensor) -> Batch:
        """Read the windows of some groups, one group after the other."""
        index = torch.as_tensor(groups)
        sizes = self.sizes[index]
        before = sizes.cumsum(0) - sizes
        inside = torch.arange(int(sizes.sum())) - before.repeat_interleave(sizes)
        return self.windows.__getitems__(self.first[index].repeat_interleave(sizes) + inside)

    def sample(self, windows: int) -> Tensor:
        """The rows of evenly spaced groups that hold about so many windows."""
        chosen = torch.linspace(0, len(self) - 1, min(self.holding(windows), len(self))).long()
        return torch.isin(self.windows.group, chosen).nonzero().flatten()

    def loader(self, windows: int) -> DataLoader[Batch]:
        """All groups in order, about so many windows at a time; the last batch is what is left."""
        return DataLoader(self, self.holding(windows), collate_fn=as_it_is)

    def holding(self, windows: int) -> int:
        """How many groups, at least one, hold about so many windows."""
        return max(1, windows * len(self) // max(1, len(self.windows)))
