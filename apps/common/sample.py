"""A sample of whole sequences that is the same each time the same sequences come."""

import torch
from torch import Tensor


class Sample:
    """Rows of whole sequences chosen at random, with what is known of each row as columns.

    Args:
        most: rows that it holds, unless one sequence alone has more.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.sequence = torch.zeros(0, dtype=torch.int64)
        self.columns: dict[str, Tensor] = {}
        self._below = 2**32

    def add(self, sequence: Tensor, **columns: Tensor) -> None:
        """Take rows (T, ...) of sequences (T,) in, and let sequences go while there are too many rows."""
        kept = scattered(sequence) < self._below
        self.sequence = torch.cat([self.sequence, sequence[kept]])
        for name, column in columns.items():
            new = column.detach()[kept.to(column.device)].cpu()
            self.columns[name] = torch.cat([self.columns[name], new]) if name in self.columns else new
        self._thin()

    def _thin(self) -> None:
        spot = scattered(self.sequence)
        spots, sizes = torch.unique(spot, return_counts=True)
        fitting = max(1, int((sizes.cumsum(0) <= self.most).sum()))
        if fitting < len(spots):
            self._below = int(spots[fitting])
            kept = spot < self._below
            self.sequence = self.sequence[kept]
            self.columns = {name: column[kept] for name, column in self.columns.items()}


def evenly(sequence: Tensor, most: int) -> Tensor:
    """(T,) bool: of each sequence no more than so many tokens, evenly spaced. sequence: (T,) int64."""
    _, number, sizes = torch.unique(sequence, return_inverse=True, return_counts=True)
    order = number.argsort(stable=True)
    rank = torch.empty_like(number)
    rank[order] = torch.arange(len(number)) - (sizes.cumsum(0) - sizes)[number[order]]
    every = -(-sizes // most)
    kept: Tensor = rank % every[number] == 0
    return kept


def scattered(number: Tensor) -> Tensor:
    """Spread integers over 0 to 2^32 as if at random, each always to the same place."""
    for _ in range(2):
        number = ((number ^ (number >> 15)) * 0x2C1B3C6D) % 2**32
    return number ^ (number >> 13)
