import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from apps.common.errors import UserError
from apps.common.loaders import ResumableLoader


class Points(Dataset[tuple[Tensor, Tensor]]):
    """Noisy points: the noise is drawn while they are read, as an augmentation is."""

    def __init__(self, rows: int, seed: int, noise: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(rows, 4, generator=generator)
        self.y = (self.x[:, :1] * self.x[:, 1:2]).sign()
        self.noise = noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.x[row] + self.noise * torch.randn(4), self.y[row]


class Data(LightningDataModule):
    def __init__(
        self,
        rows: int = 60,
        batch_size: int = 8,
        seed: int = 0,
        workers: int = 0,
        broken: bool = False,
        columns: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.rows, self.batch_size, self.seed, self.workers = rows, batch_size, seed, workers
        self.broken = broken

    def setup(self, stage: str) -> None:
        if self.broken:
            raise UserError("points.csv is empty: give a file with rows.")

    def train_dataloader(self) -> ResumableLoader:
        points = Points(self.rows, self.seed, noise=0.1)
        return ResumableLoader(points, self.batch_size, seed=self.seed, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(Points(24, self.seed + 1, noise=0.0), batch_size=16)

    def state_dict(self) -> dict[str, int]:
        return {"rows": self.rows}
