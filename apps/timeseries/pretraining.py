"""Data to pretrain on: synthetic series from priors, and the training parts of public sets, by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import cast

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from apps.common.catalogue import describe, fetch
from apps.common.errors import UserError
from apps.timeseries.priors import PRIORS, draw
from apps.timeseries.splits import Borders, Split, ratio_borders, split_tables
from apps.timeseries.tables import Table, read_tables
from apps.timeseries.windows import Batch, Windows

Span = tuple[int, int]


@dataclass
class Pretraining:
    """What a forecaster is pretrained on, and in which shares.

    The series of a prior stand end to end as one long series under the prior's name, and no window touches
    two of them; the last ones are held out, 10% for validation and 20% for test. A set of the catalogue keeps
    its own split, its series called ``set/series``.

    Attributes:
        priors: weight of each prior (see apps.timeseries.priors); all of them evenly by default.
        sets: weight of each set of the catalogue, such as {ETTh2: 1.0}; none by default. All weights
            together count as one: they are shares in the training windows.
        series: how many series of each prior.
        rows: length of each.
        seed: of the priors.
    """

    priors: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PRIORS, 1.0))
    sets: dict[str, float] = field(default_factory=dict)
    series: int = 400
    rows: int = 1024
    seed: int = 0

    def check(self) -> None:
        """Raise UserError for an unknown prior, weights that are no shares, or too few series."""
        unknown = [name for name in self.priors if name not in PRIORS]
        if unknown:
            raise UserError(
                f"data.pretraining knows no prior {unknown[0]!r}: choose among {', '.join(PRIORS)}."
            )
        if not self.weights or min(self.weights.values()) <= 0:
            raise UserError("data.pretraining wants a positive weight for each of its priors and sets.")
        if self.series < 10:
            raise UserError("data.pretraining.series must be 10 or more, as some are held out: raise it.")

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every prior and set by name."""
        return {**self.priors, **self.sets}

    def download(self, app: str) -> None:
        """Get the sets that are not on disk."""
        for name in self.sets:
            fetch(app, name)

    def read(self, app: str, context: int, horizon: int) -> list[tuple[Table, Borders]]:
        """Draw the priors and read the sets; each table with its borders.

        Raises UserError where a window is longer than the series of a prior, or a set cannot be read.
        """
        if self.priors and self.rows < context + horizon:
            raise UserError(
                f"data.pretraining.rows is {self.rows}, and context {context} and horizon {horizon} need "
                f"{context + horizon}: raise it, or make the two shorter."
            )
        found = [(self._synthetic(prior), self._synthetic_borders()) for prior in self.priors]
        for name in self.sets:
            entry = describe(app, name)
            tables = [_named(table, name) for table in read_tables(fetch(app, name), **entry.read)]
            found += split_tables(tables, cast(Split, entry.split), (0.7, 0.1, 0.2), context, horizon)
        return found

    def pieces(self, name: str, span: Span) -> list[Span]:
        """Cut the span of a series where one synthetic series ends and the next one begins."""
        if name not in self.priors:
            return [span]
        begin, end = span
        cuts = [begin, *range((begin // self.rows + 1) * self.rows, end, self.rows), end]
        return list(pairwise(cuts))

    def mixed(self, windows: Windows, names: Sequence[str]) -> Mixed:
        """Training windows in the shares that were asked for; names: the series of their channels."""
        return Mixed(windows, [name.partition("/")[0] for name in names], self.weights)

    def _synthetic(self, prior: str) -> Table:
        values = draw(prior, self.series, self.rows, self.seed).reshape(-1, 1)
        return Table(values, pd.RangeIndex(len(values)), (prior,))

    def _synthetic_borders(self) -> Borders:
        return Borders(*(border * self.rows for border in ratio_borders(self.series)))


class Mixed(Dataset[Batch]):
    """Windows of several groups in given shares: each group repeated until its share is right.

    Of every group all windows are there, equally often but for one. As a map-style data set it leaves order
    and resumption to the loader.

    Args:
        windows: the windows.
        groups: the group of each channel.
        weights: group -> weight.
    """

    def __init__(self, windows: Windows, groups: Sequence[str], weights: Mapping[str, float]) -> None:
        self.windows = windows
        number = {name: i for i, name in enumerate(weights)}
        group = torch.tensor([number[name] for name in groups])[windows.channel]
        rows = {name: (group == i).nonzero().flatten() for name, i in number.items()}
        most = max(len(rows[name]) / weight for name, weight in weights.items())
        self.rows = torch.cat([_stretched(rows[name], round(most * weights[name])) for name in weights])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, rows: Sequence[int] | Tensor) -> Batch:
        """Read the windows of one batch."""
        return self.windows.__getitems__(self.rows[torch.as_tensor(rows)])


def _stretched(rows: Tensor, size: int) -> Tensor:
    """Repeat rows to so many, each about equally often."""
    return rows[torch.arange(size) * len(rows) // max(size, 1)]


def _named(table: Table, name: str) -> Table:
    return replace(table, names=tuple(f"{name}/{series}" for series in table.names))
