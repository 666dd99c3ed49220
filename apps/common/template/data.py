"""The data module: rows of numbers with a class each, from a CSV or generated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from apps.common.errors import UserError
from apps.common.frames import read_frame
from apps.common.loaders import ResumableLoader
from apps.common.template.simulate import simulate
from apps.common.template.tables import read_labels, read_numbers

APP = "template"
Part = Literal["train", "validation", "test"]
SHARES = {"train": (0.0, 0.7), "validation": (0.7, 0.85), "test": (0.85, 1.0)}


class Data(LightningDataModule):
    """Rows (F numbers) with a class, split at random by the seed into 70% training, 15% validation, 15% test.

    Args:
        path: a CSV or parquet file with a header; None generates clusters, each with a rule of its own.
        label: the column that holds the class; all others are features.
        rows: how many rows to generate.
        batch_size: rows a batch.
        seed: of the generator, the split and the order of the batches.
    """

    def __init__(
        self,
        path: Path | None = None,
        label: str = "label",
        rows: int = 4000,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.path = path
        self.label, self.rows, self.batch_size, self.seed = label, rows, batch_size, seed
        self.source = str(path or "the generated table")
        self.features: list[str] = []
        self.classes: list[str] = []
        self._parts: dict[Part, TensorDataset] = {}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from a checkpoint what prediction needs, without the data it was trained on."""
        data = cls(label=state["label"])
        data.load_state_dict(dict(state))
        return data

    def setup(self, stage: str | None = None) -> None:
        """Read the rows, split them, and measure their scale on the training rows."""
        if self._parts:
            return
        table = read_frame(self.path) if self.path else simulate(self.rows, seed=self.seed)
        self.classes, label = read_labels(table, self.label, self.source)
        self.features = [name for name in table.columns if name != self.label]
        x = read_numbers(table, self.features, self.source)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))
        rows = {part: order[int(a * len(x)) : int(b * len(x))] for part, (a, b) in SHARES.items()}
        if min(len(own) for own in rows.values()) == 0:
            raise UserError(f"{self.source} has {len(x)} rows, too few for three parts: add rows.")
        self.mean, self.std = x[rows["train"]].mean(0), x[rows["train"]].std(0).clamp(min=1e-6)
        x = self._scaled(x)
        self._parts = {part: TensorDataset(x[own], label[own]) for part, own in rows.items()}  # type: ignore[misc]

    def part(self, part: Part) -> tuple[Tensor, Tensor]:
        """Scaled rows (N, F) and labels (N,) of one part."""
        x, label = self._parts[part].tensors
        return x, label

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled by (seed, epoch)."""
        return ResumableLoader(self._parts["train"], self.batch_size, seed=self.seed)

    def val_dataloader(self) -> DataLoader[Any]:
        """In order; the last batch is what is left."""
        return DataLoader(self._parts["validation"], self.batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        """In order; the last batch is what is left."""
        return DataLoader(self._parts["test"], self.batch_size)

    def read_rows(self, table: pd.DataFrame, source: str) -> Tensor:
        """Scaled features (N, F) of a user's table; columns are found by name, others are left alone."""
        return self._scaled(read_numbers(table, self.features, source))

    def state_dict(self) -> dict[str, Any]:
        """Return what prediction needs, as tensors and plain values."""
        return {
            "label": self.label,
            "features": self.features,
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take names and scale over, unless rows were read already."""
        if not self._parts:
            self.features, self.classes = state_dict["features"], state_dict["classes"]
            self.mean, self.std = state_dict["mean"], state_dict["std"]

    def _scaled(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
