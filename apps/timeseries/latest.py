"""The last context of every series of a file, ready to be forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from apps.timeseries.scaler import Scaler
from apps.timeseries.tables import Table
from apps.timeseries.windows import Windows, as_line, table_of_each


@dataclass(frozen=True)
class Latest:
    """One window without a target for each series. windows[i] belongs to scaler.names[i]."""

    tables: Sequence[Table]
    windows: Windows
    scaler: Scaler

    def restore(self, forecast: Tensor, channel: Tensor) -> Tensor:
        """Turn forecasts (B, H) of the series channel (B,) into the units of the file."""
        return self.scaler.restore(forecast, channel)


def latest_windows(
    tables: Sequence[Table], context: int, trained: Scaler | None = None, joint: bool = False
) -> Latest:
    """Take the last `context` rows of each series; rows that a shorter one lacks count as missing.

    They are put on the scale of training where `trained` knows every series of the file; otherwise each on
    the scale of its own context. For a model that normalises each window the two are the same. Where joint,
    the windows of a table are a group.

    Raises UserError where a series has no value in them.
    """
    tables = [table.reaching_back(context) for table in tables]
    spans = [(len(table.values) - context, len(table.values)) for table in tables]
    own = Scaler.fit(tables, spans)
    scaler = (trained.select(own.names) if trained else None) or own
    by_series = [span for table, span in zip(tables, spans, strict=True) for _ in table.names]
    owners = table_of_each(tables) if joint else None
    windows = Windows(as_line(tables, scaler), by_series, context, 0, tables=owners)
    return Latest(tables, windows, scaler)
