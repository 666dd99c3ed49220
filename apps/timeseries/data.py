"""The data module: a file, a set of the catalogue or simulated series, as scaled windows of single series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from apps.common.catalogue import describe, fetch
from apps.common.errors import UserError
from apps.common.loaders import ResumableLoader, as_it_is
from apps.timeseries.clock import season
from apps.timeseries.latest import Latest, latest_windows
from apps.timeseries.metrics import naive_error
from apps.timeseries.pretraining import Pretraining
from apps.timeseries.scaler import Scaler
from apps.timeseries.simulate import simulate
from apps.timeseries.splits import Borders, Part, Split, split_tables
from apps.timeseries.tables import Table, read_tables
from apps.timeseries.windows import Batch, Groups, Windows, as_line, table_of_each

APP = "timeseries"


class Data(LightningDataModule):
    """Windows of `context` rows and the `horizon` rows after them, each of one series.

    The scale of each series comes from its training rows alone, or from a checkpoint (`load_state_dict`) that
    knows all series. Raises UserError where the file cannot be read or is too short.

    Args:
        path: a CSV or parquet file.
        name: a set of the catalogue, which brings its own split and format. Without path and name the series
            are simulated.
        pretraining: synthetic series and the training parts of public sets, in place of a file or a set.
        context: rows read.
        horizon: rows forecast.
        horizons: those whose errors count in validation and test, each on all windows that have room for it;
            `horizon` alone by default.
        batch_size: windows in a batch.
        split: "ratio", "ett" for 12, 4 and 4 months, or "last" for one horizon at the end that validates and
            no test; that of the catalogue, or ratio, by default.
        ratios: shares of the rows for training, validation and test.
        date_column: column of the dates; found by its usual names by default; "none" for undated rows.
        columns: series to keep; all by default.
        id_column: column of the series' names, in a long file.
        value_column: column of the values, in a long file.
        frequency: step of the dates as a pandas offset such as h; inferred by default.
        header: whether the first row holds the names of the columns.
        by_row: whether each row is a series, its name and then its values without dates.
        rows: hours to simulate.
        max_windows_per_epoch: train on so many windows an epoch, drawn anew by (seed, epoch); all by default.
        validation_stride: rows between the starts of validation windows. Test windows start at every row.
        joint: let windows of one table and start see one another, in networks that can: batches are then of
            whole groups and hold about `batch_size` windows. Series of a long file, a table each, stay alone.
        seed: of the order of training windows.
        earlier: validate so many lengths of the validation part earlier, train on what comes before, and test
            nothing: settings may be chosen by more than one stretch of time. Not for pretraining.
    """

    def __init__(
        self,
        path: Path | None = None,
        name: str | None = None,
        pretraining: Pretraining | None = None,
        context: int = 512,
        horizon: int = 96,
        horizons: list[int] | None = None,
        batch_size: int = 64,
        split: Split | None = None,
        ratios: tuple[float, float, float] = (0.7, 0.1, 0.2),
        date_column: str | None = None,
        columns: list[str] | None = None,
        id_column: str | None = None,
        value_column: str | None = None,
        frequency: str | None = None,
        header: bool = True,
        by_row: bool = False,
        rows: int = 6000,
        max_windows_per_epoch: int | None = None,
        validation_stride: int = 1,
        joint: bool = False,
        seed: int = 0,
        earlier: int = 0,
    ) -> None:
        super().__init__()
        if path is not None and name is not None:
            raise UserError(f"both path {path} and name {name} were given: keep one of the two.")
        if pretraining is not None and (path or name) is not None:
            raise UserError(f"both pretraining and {path or name} were given: keep one of the two.")
        if pretraining is not None and joint:
            raise UserError("pretraining reads each series by itself: leave joint out.")
        if pretraining is not None:
            pretraining.check()
        if min(context, horizon, batch_size, validation_stride) < 1:
            raise UserError(
                "context, horizon, batch_size and validation_stride must be 1 or more: raise them."
            )
        if horizons is not None and not all(1 <= some <= horizon for some in horizons):
            raise UserError(
                f"data.horizons {horizons} must lie between 1 and data.horizon, {horizon}: lower these, or "
                "raise that."
            )
        if earlier < 0 or (max_windows_per_epoch is not None and max_windows_per_epoch < 1):
            raise UserError("earlier must be 0 or more, and max_windows_per_epoch 1 or more: raise them.")
        self.path, self.name, self.rows = path, name, rows
        self.pretraining = pretraining
        self.context, self.horizon, self.batch_size = context, horizon, batch_size
        self.horizons = sorted(set(horizons or [horizon]))
        self.split, self.ratios = split, ratios
        self.format: dict[str, Any] = {
            "date_column": date_column,
            "columns": columns,
            "id_column": id_column,
            "value_column": value_column,
            "frequency": frequency,
            "header": header,
            "by_row": by_row,
        }
        self.max_windows_per_epoch, self.validation_stride = max_windows_per_epoch, validation_stride
        self.joint, self.seed, self.earlier = joint, seed, earlier
        self.tables: list[Table] = []
        self.borders: list[Borders] = []
        self.frequency: str | None = None
        self._scaler: Scaler | None = None

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Data:
        """Rebuild from a checkpoint what prediction needs, without the data it was trained on."""
        joint = state.get("joint", False)  # checkpoints of before have none
        data = cls(context=state["context"], horizon=state["horizon"], joint=joint, **state["format"])
        data.load_state_dict(dict(state))
        return data

    def prepare_data(self) -> None:
        """Download the named sets where they are not on disk."""
        if self.name is not None:
            fetch(APP, self.name)
        if self.pretraining is not None:
            self.pretraining.download(APP)

    def setup(self, stage: str | None = None) -> None:
        """Read the series, split them, and measure their scale on the training rows."""
        if self.tables:
            return
        pairs = self._read()
        self.tables, self.borders = [table for table, _ in pairs], [borders for _, borders in pairs]
        self.frequency = self.tables[0].frequency
        own = Scaler.fit(self.tables, [(0, borders.train) for borders in self.borders])
        self._scaler = (self._scaler.select(own.names) if self._scaler else None) or own

    @property
    def scaler(self) -> Scaler:
        """Mean and standard deviation of each series."""
        if self._scaler is None:
            raise RuntimeError("call setup() or load_state_dict() first")
        return self._scaler

    @property
    def names(self) -> tuple[str, ...]:
        """The series, in the order of `channel` in a batch."""
        return self.scaler.names

    @property
    def season(self) -> int:
        """Rows in the natural cycle of the first table's clock, 24 for hours."""
        return season(self.frequency)

    def windows(self, part: Part) -> Windows:
        """Return the windows of one part; see `Borders.span` for the rows they touch."""
        if part == "test" and not self.borders[0].tests:
            raise UserError(f"{self.tables[0].source}: this split leaves no row to test: say validation.")
        spans = [
            borders.span(part, self.context)
            for table, borders in zip(self.tables, self.borders, strict=True)
            for _ in table.names
        ]
        channels = list(range(len(spans)))
        if self.pretraining is not None:
            cut = [self.pretraining.pieces(*pair) for pair in zip(self.names, spans, strict=True)]
            channels = [channel for channel, pieces in enumerate(cut) for _ in pieces]
            spans = [piece for pieces in cut for piece in pieces]
        stride = self.validation_stride if part == "validation" else 1
        line, tables = as_line(self.tables, self.scaler), table_of_each(self.tables) if self.joint else None
        windows = Windows(line, spans, self.context, self.horizon, stride, channels, tables)
        if not len(windows):
            raise UserError(
                f"{self.tables[0].source}: no {part} row has a value: fill the gaps, or add rows."
            )
        return windows

    def naive_error(self) -> Tensor:
        """Return the seasonal naive error of each series on its scaled training rows, (C,), for MASE."""
        errors = [
            naive_error(torch.from_numpy(table.values[: borders.train]), season(table.frequency))
            for table, borders in zip(self.tables, self.borders, strict=True)
        ]
        return (torch.cat(errors) / self.scaler.std).float()

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled by (seed, epoch)."""
        windows, most = self.windows("train"), self.max_windows_per_epoch
        if self.pretraining:
            return self._loader(self.pretraining.mixed(windows, self.names), self.batch_size, most)
        groups = Groups(windows)
        return self._loader(
            groups, groups.holding(self.batch_size), None if most is None else groups.holding(most)
        )

    def _loader(self, dataset: Dataset[Batch], batch_size: int, most: int | None) -> ResumableLoader:
        return ResumableLoader(
            dataset,
            batch_size,
            seed=self.seed,
            rows_per_epoch=most,
            collate_fn=as_it_is,
        )

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """A loader for each of the horizons, in order; the last batch is what is left."""
        return self._in_order("validation")

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """A loader for each of the horizons, in order; the last batch is what is left."""
        return self._in_order("test")

    def prediction_windows(self, tables: Sequence[Table]) -> Latest:
        """Take the last context of every series of a user's tables, whether trained on or not."""
        return latest_windows(tables, self.context, self._scaler, self.joint)

    def restore(self, values: Tensor, channel: Tensor) -> Tensor:
        """Turn scaled values (B, ...) of the series channel (B,) into the units of the data."""
        return self.scaler.restore(values, channel)

    def state_dict(self) -> dict[str, Any]:
        """Return what prediction needs, as tensors and plain values."""
        return {
            "context": self.context,
            "horizon": self.horizon,
            "joint": self.joint,
            "frequency": self.frequency,
            "format": self.format,
            "names": list(self.names),
            "mean": self.scaler.mean,
            "std": self.scaler.std,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the scale of training over, unless the series at hand are other ones."""
        trained = Scaler(tuple(state_dict["names"]), state_dict["mean"], state_dict["std"])
        if self.tables:
            self._scaler = trained.select(self.names) or self.scaler
        else:
            self._scaler, self.frequency = trained, state_dict["frequency"]

    def _in_order(self, part: Part) -> list[DataLoader[Batch]]:
        windows = self.windows(part)
        return [Groups(windows.of_horizon(horizon)).loader(self.batch_size) for horizon in self.horizons]

    def _read(self) -> list[tuple[Table, Borders]]:
        if self.pretraining is not None:
            return self.pretraining.read(APP, self.context, self.horizon)
        known: Split = "ratio"
        if self.path is not None:
            tables = read_tables(self.path, **self.format)
        elif self.name is None:
            tables = [simulate(self.rows)]
        else:
            entry = describe(APP, self.name)
            self.format |= entry.read
            tables = read_tables(fetch(APP, self.name), **self.format)
            known = cast(Split, entry.split)
        self.split = self.split or known
        pairs = split_tables(tables, self.split, self.ratios, self.context, self.horizon)
        try:
            return [(table, borders.earlier(self.earlier)) for table, borders in pairs]
        except ValueError as error:
            raise UserError(f"data.earlier {self.earlier}: {error}: lower it.") from error
