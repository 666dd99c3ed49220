"""The data module: scans of several sensors, cropped at random for training, tile by tile otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningDataModule
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from apps.common.errors import UserError
from apps.common.loaders import ResumableLoader, as_it_is
from apps.pointcloud.crops import Batch, Crops, batch, crop_of
from apps.pointcloud.features import NAMES, Scan, scan_of
from apps.pointcloud.grid import fitting, side_of
from apps.pointcloud.sheet import APP, Part, Sheet, read_sheet, scans, simulated
from apps.pointcloud.tiles import tiles

__all__ = ["APP", "Data"]


class Data(LightningDataModule):
    """Scans of domains, of which a batch holds crops of several.

    Args:
        sheet: YAML file of the domains, see apps/pointcloud/sheet.py; three simulated ones by default.
        domains: names of some of them; all by default. Classes are those of the whole sheet.
        crops: training crops an epoch.
        points: cells of a crop, and of a tile.
        batch_size: crops a batch.
        shares: how many crops each domain has beside the others, by name; alike by default.
        mixed: draw each batch from all domains; else all crops of one are of the same.
        side: of a cell, metres, for all scans; by default of each as dense as it is.
        seed: of the simulated scans.
        batch_seed: of the order of batches and of the crops; the same by default.
    """

    def __init__(
        self,
        sheet: Path | None = None,
        domains: Sequence[str] | None = None,
        crops: int = 180,
        points: int = 4096,
        batch_size: int = 6,
        shares: dict[str, float] | None = None,
        mixed: bool = True,
        side: float | None = None,
        seed: int = 0,
        batch_seed: int | None = None,
    ) -> None:
        super().__init__()
        if min(crops, points, batch_size) < 1 or (side is not None and side <= 0):
            raise UserError("data: crops, points, batch_size and side must be positive: raise them.")
        whole = simulated() if sheet is None else read_sheet(sheet)
        self.sheet: Sheet = whole if domains is None else whole.only(domains)
        self.crops, self.points, self.batch_size, self.mixed = crops, points, batch_size, mixed
        self.side, self.seed, self.batch_seed = side, seed, seed if batch_seed is None else batch_seed
        names = [domain.name for domain in self.sheet.domains]
        for name, share in (shares or {}).items():
            if name not in names or not 0 <= share < np.inf:
                raise UserError(f"data.shares: {name}: {share} is no share of one of {', '.join(names)}.")
        self.shares = np.array([(shares or {}).get(name, 1.0) for name in names])
        if not self.shares.sum():
            raise UserError("data.shares: every domain has a share of 0: raise one.")
        self._parts: dict[Part, list[Scan]] = {}

    @property
    def classes(self) -> np.ndarray:
        """(D, C) bool, the classes of each domain."""
        return np.stack([self.sheet.of(domain) for domain in self.sheet.domains])

    @property
    def features(self) -> int:
        """F."""
        return len(NAMES)

    def setup(self, stage: str | None = None) -> None:
        """Read the scans of training and validation, so that what is wrong with them shows at once."""
        if stage in (None, "fit"):
            self.part("train")
            self.part("validation")

    def part(self, part: Part) -> list[Scan]:
        """The scans of one part, on their grids; they are read when first asked for."""
        if part not in self._parts:
            found = []
            domains = self.sheet.domains
            for number, domain in track(list(enumerate(domains)), f"Reading {part} scans", transient=True):
                own = [
                    scan_of(cloud, name, number, fitting(self.side, side_of(cloud.xyz), name))
                    for name, cloud in scans(self.sheet, domain, part, self.seed)
                ]
                if not own:
                    raise UserError(f"domain {domain.name} has no {part} scans: say in the sheet which are.")
                found += own
            self._parts[part] = found
        return self._parts[part]

    def train_dataloader(self) -> ResumableLoader:
        """Crops anew in each epoch, in an order that hangs on (seed, epoch) alone."""
        alone = 1 if self.mixed else self.batch_size
        found = Crops(self.part("train"), self.classes, self.crops, self.points, self.shares, alone)
        return ResumableLoader(found, self.batch_size // alone, seed=self.batch_seed, collate_fn=as_it_is)

    def val_dataloader(self) -> DataLoader[Any]:
        """Tiles in order."""
        return self._in_order("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        """Tiles in order."""
        return self._in_order("test")

    def state_dict(self) -> dict[str, Any]:
        """Return what prediction needs, as plain values."""
        return {
            "classes": list(self.sheet.classes),
            "domains": {domain.name: sorted(domain.classes.values()) for domain in self.sheet.domains},
            "points": self.points,
            "side": self.side,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to take over: the sheet is in the configuration, and the task calls `check`."""

    def check(self, state_dict: dict[str, Any]) -> None:
        """Raise UserError unless classes and domains are those of training."""
        self.check_domains(state_dict["domains"])
        if list(self.sheet.classes) != list(state_dict["classes"]):
            raise UserError(
                "the sheet has other classes than the one that the checkpoint was trained on: train on this "
                "sheet, or use evaluate or predict."
            )

    def check_domains(self, trained: Iterable[str]) -> None:
        """Raise UserError unless the domains are those of training."""
        names = [domain.name for domain in self.sheet.domains]
        if names != list(trained):
            raise UserError(
                f"the domains are {', '.join(names)}, and those of training {', '.join(trained)}: name these."
            )

    def _in_order(self, part: Part) -> DataLoader[Any]:
        return DataLoader(Tiles(self.part(part), self.classes, self.points), 1, collate_fn=as_it_is)


class Tiles(Dataset[Batch]):
    """Tiles of scans without overlap, a batch each."""

    def __init__(self, found: Sequence[Scan], classes: np.ndarray, size: int) -> None:
        self.classes = classes
        self.rows = [(scan, rows) for scan in found for rows in tiles(scan.xyz, size)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        """Read some."""
        crops = [crop_of(*self.rows[number]) for number in numbers]
        return batch(crops, self.classes)

    def some(self, most: int) -> Batch:
        """Up to `most` tiles of each domain, spread over its scans."""
        chosen: list[int] = []
        for domain in range(len(self.classes)):
            own = [number for number, (scan, _) in enumerate(self.rows) if scan.domain == domain]
            places = np.unique(np.linspace(0, len(own) - 1, min(most, len(own))).astype(int))
            chosen += [own[place] for place in places]
        return self.__getitems__(chosen)
