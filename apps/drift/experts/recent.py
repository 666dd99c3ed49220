"""The labels of late, whatever the features."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from apps.drift.experts.alone import Alone, before


class Recent(Alone):
    """How often each class came of late; an expert for each memory. One of a single row says the last label.

    On streams whose labels stay as they are for a while this is hard to beat, and a mixture that does not
    have it can be worse than no learning at all.

    Args:
        features: D, which it does not read.
        classes: C.
        memories: of each expert, the rows that count: a label fades by 1 - 1 / memory.
    """

    shares: Tensor

    def __init__(self, features: int, classes: int, memories: Sequence[int] = (1, 100)) -> None:
        super().__init__(len(memories), classes)
        self.names = [f"recent {memory}" for memory in memories]
        self.decays = [1 - 1 / memory for memory in memories]
        self.register_buffer("shares", torch.zeros(self.num_experts, classes, dtype=torch.float64))

    def answer(self, expert: int, x: Tensor) -> Tensor:
        """The shares as they are."""
        return _normalised(self.shares[expert].expand(len(x), -1))

    def lesson(self, expert: int, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Count labels in."""
        decay = self.decays[expert]
        start, rows, end = before(weight, decay)
        label = F.one_hot(y, self.classes).double()
        said = _normalised(start[:, None] * self.shares[expert] + rows @ label)
        self.shares[expert] = decay ** len(x) * self.shares[expert] + end @ label
        return said


def _normalised(shares: Tensor) -> Tensor:
    shares = shares + 1e-9
    return (shares / shares.sum(1, keepdim=True)).float()
