"""Standard scores by series, from the rows that the model may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apps.common.errors import UserError
from apps.timeseries.tables import Table

LARGEST = 1e30
"""Beyond it squares and single precision overflow."""
ROUNDING = 10 * np.finfo(np.float64).eps  # a constant's deviation is not more than this share of its mean


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of each series. names: C series; mean, std: (C,) float64."""

    names: tuple[str, ...]
    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, tables: Sequence[Table], spans: Sequence[tuple[int, int]]) -> Scaler:
        """Measure each table on its rows (begin, end), missing values left out; a constant keeps std 1.

        Raises UserError for a series without any value in these rows, or with one that is too large.
        """
        names, means, stds = [], [], []
        for table, (begin, end) in zip(tables, spans, strict=True):
            for name, values in zip(table.names, table.values[begin:end].T, strict=True):
                observed = values[~np.isnan(values)]
                if not len(observed):
                    raise UserError(
                        f"{table.source}: '{name}' has no value in rows {begin + 1} to {end}, which "
                        f"set its scale: fill it, or leave it out with `columns`."
                    )
                names.append(name)
                largest = np.abs(observed).max()
                if largest > LARGEST:
                    raise UserError(
                        f"{table.source}: '{name}' reaches {largest:.3g}, too large to be told apart: "
                        "correct it, or divide the series."
                    )
                mean, std = observed.mean(), observed.std()
                means.append(mean)
                stds.append(std if std > ROUNDING * abs(mean) else 1.0)
        return cls(tuple(names), torch.tensor(np.array(means)), torch.tensor(np.array(stds)))

    def scale(self, values: Tensor, channel: Tensor) -> Tensor:
        """Turn units into standard scores. values: (B, ...); channel: (B,) index into names."""
        mean, std = self._of(values, channel)
        return (values - mean) / std

    def restore(self, values: Tensor, channel: Tensor) -> Tensor:
        """Turn standard scores back into units, (B, ...) in float64. channel: (B,) index into names."""
        mean, std = self._of(values.double(), channel)
        return values * std + mean

    def select(self, names: Sequence[str]) -> Scaler | None:
        """Return the scaler of these series in this order, None where one of them is not known."""
        if not set(names) <= set(self.names):
            return None
        where = torch.tensor([self.names.index(name) for name in names])
        return Scaler(tuple(names), self.mean[where], self.std[where])

    def _of(self, values: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1,) + (1,) * (values.ndim - 1)
        rows = channel.to(self.mean.device)
        mean, std = self.mean[rows].to(values), self.std[rows].to(values)
        return mean.view(shape), std.view(shape)
