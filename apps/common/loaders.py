"""A training loader whose batches are a function of (seed, epoch, batch number): it can start anywhere."""

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset


class Draw(NamedTuple):
    """The rows of one batch, and the seed of whatever the data set draws while it reads them."""

    seed: int
    rows: list[int]


def seed_all(seed: int) -> None:
    """Seed the generators of torch, NumPy and Python with a number below 2**63."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def derive_seed(*parts: int) -> int:
    """Mix non-negative numbers, in order, into one well-spread seed below 2**63."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


class EpochSampler:
    """The batches of rows of one epoch, for this process, from a batch number on.

    Of several processes each takes every world-size-th row; the order wraps around to give all equally many.
    """

    def __init__(
        self, rows: int, batch_size: int, seed: int, shuffle: bool, drop_last: bool, most: int | None = None
    ) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.size = rows if most is None else min(rows, most)
        self.shuffle, self.drop_last = shuffle, drop_last
        self.epoch = 0
        self.given = 0
        self.start: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Fix the epoch of the next iteration; Lightning calls this before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        rows = -(-self.size // _world()[1])
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def __iter__(self) -> Iterator[Draw]:
        resumed = self.start is not None and self.start[0] == self.epoch
        self.given = self.start[1] if resumed and self.start else 0
        self.start = None
        rows, rank = self._rows(), _world()[0]
        for batch in range(self.given, len(self)):
            chosen = rows[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield Draw(derive_seed(self.seed, self.epoch, batch, rank), chosen.tolist())

    def _rows(self) -> np.ndarray:
        generator = np.random.default_rng(derive_seed(self.seed, self.epoch))
        order = generator.permutation(self.rows) if self.shuffle else np.arange(self.rows)
        rank, world = _world()
        return np.resize(order[: self.size], -(-self.size // world) * world)[rank::world]


class ResumableLoader:
    """Batches of a map-style data set, for training; Lightning resumes it in the middle of an epoch.

    The order of the rows depends on (seed, epoch) alone, and the random generators are seeded for each batch
    from (seed, epoch, batch): augmentations are the same for any number of workers and after a restart.
    Outside Lightning call `loader.sampler.set_epoch(epoch)` before each epoch.

    `dataset` may define `__getitems__(rows)` to fetch a batch at once; give a `collate_fn` that fits it.
    `rows_per_epoch`: read only so many rows an epoch, when shuffled other ones each time.
    Other keyword arguments go to `torch.utils.data.DataLoader` (num_workers, collate_fn, pin_memory, ...).
    Never give `drop_last` for validation or test rows.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rows_per_epoch: int | None = None,
        **options: Any,
    ) -> None:
        self.dataset = dataset
        rows = len(dataset)  # type: ignore[arg-type]
        self.sampler = EpochSampler(rows, batch_size, seed, shuffle, drop_last, rows_per_epoch)
        self._loader = DataLoader(_SeededRows(dataset), batch_sampler=self.sampler, **options)  # type: ignore[arg-type]

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        # A generator, so that the order is fixed at the first batch: by then Lightning has set the epoch.
        for batch in self._loader:
            self.sampler.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches were given out."""
        return {"epoch": self.sampler.epoch, "batch": self.sampler.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration, if it is of epoch `state["epoch"]`, begin at batch `state["batch"]`."""
        self.sampler.start = (state["epoch"], state["batch"])


def as_it_is(batch: Any) -> Any:
    """Collate for data sets whose `__getitems__` returns whole batches."""
    return batch


class _SeededRows(Dataset[Any]):
    """Reads the rows of a draw, after seeding the generators with its seed."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitems__(self, draw: Draw) -> Any:
        seed_all(draw.seed)
        fetch = getattr(self.dataset, "__getitems__", None)
        return fetch(draw.rows) if fetch else [self.dataset[row] for row in draw.rows]


def _world() -> tuple[int, int]:
    """Return (rank, number of processes)."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
