"""The last rows of a stream, to be shown again."""

import torch
from torch import Tensor, nn

from apps.common.loaders import derive_seed


def drawn_seed() -> int:
    """A seed by torch's generator, so that whoever seeds that has other draws."""
    return int(torch.randint(2**31, ()))


class Memory(nn.Module):
    """Keeps the last rows and their labels; what is drawn hangs on the seed and on how many rows were seen.

    Args:
        features: D.
        size: rows that it holds.
        seed: of the draws; by default one that torch's generator gives.
    """

    rows: Tensor
    labels: Tensor
    seen: Tensor
    seed: Tensor

    def __init__(self, features: int, size: int, seed: int | None = None) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("rows", torch.zeros(size, features))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seed", torch.tensor(drawn_seed() if seed is None else seed))

    def keep(self, x: Tensor, y: Tensor) -> None:
        """Take rows (n, D) and labels (n,) in; the oldest leave."""
        first = int(self.seen)
        place = torch.arange(first, first + len(x), device=x.device)[-self.size :] % self.size
        self.rows[place], self.labels[place] = x[-self.size :], y[-self.size :]
        self.seen += len(x)

    def draw(self, count: int, last: int | None = None) -> tuple[Tensor, Tensor]:
        """Return rows and labels drawn with replacement, of the last so many; none while nothing is held."""
        held = min(int(self.seen), self.size)
        rows, labels = (self.rows[:held], self.labels[:held]) if last is None else self.last(last)
        generator = torch.Generator().manual_seed(derive_seed(int(self.seed), int(self.seen)))
        number = (count if len(rows) else 0,)
        drawn = torch.randint(max(len(rows), 1), number, generator=generator).to(self.rows.device)
        return rows[drawn], labels[drawn]

    def last(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the last rows and labels, as many as are held, the earliest first."""
        seen = int(self.seen)
        place = torch.arange(seen - min(count, seen, self.size), seen, device=self.rows.device) % self.size
        return self.rows[place], self.labels[place]
