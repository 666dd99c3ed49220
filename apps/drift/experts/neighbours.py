"""The nearest of the last rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from apps.drift.experts.alone import Alone
from apps.drift.experts.scale import RunningScale


class Neighbours(Alone):
    """The k nearest among the last rows vote, near ones more; an expert for each length of memory.

    Distances are Euclidean, each feature in its deviations.

    Args:
        features: D.
        classes: C.
        memories: of each expert, how many of the last rows it holds.
        k: neighbours.
    """

    held: Tensor
    rows: Tensor
    labels: Tensor

    def __init__(
        self, features: int, classes: int, memories: Sequence[int] = (1000, 300), k: int = 5
    ) -> None:
        super().__init__(len(memories), classes)
        self.memories, self.k = list(memories), k
        self.names = [f"neighbours {memory}" for memory in memories]
        self.scale = RunningScale(features)
        longest = max(memories)
        self.register_buffer("held", torch.zeros(self.num_experts, dtype=torch.int64))
        self.register_buffer("rows", torch.zeros(self.num_experts, longest, features))
        self.register_buffer("labels", torch.zeros(self.num_experts, longest, dtype=torch.int64))

    def answer(self, expert: int, x: Tensor) -> Tensor:
        """The vote of the rows that it holds."""
        rows, labels = self._memory(expert)
        return self._vote(x, rows, labels, torch.ones(len(x), len(rows), dtype=torch.bool, device=x.device))

    def lesson(self, expert: int, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Take rows in; the oldest leave."""
        rows, labels = self._memory(expert)
        kept = weight > 0
        held = len(rows)
        order = torch.cat([torch.arange(held, device=x.device), held + kept.long().cumsum(0) - kept.long()])
        now = order[held:, None]
        seen = (order < now) & (order >= now - self.memories[expert])
        seen[:, held:] &= kept
        rows, labels = torch.cat([rows, x]), torch.cat([labels, y])
        said = self._vote(x, rows, labels, seen)
        kept = torch.cat([torch.ones(held, dtype=torch.bool, device=x.device), kept])
        rows, labels = (part[kept][-self.memories[expert] :] for part in (rows, labels))
        self.rows[expert, : len(rows)], self.labels[expert, : len(rows)] = rows, labels
        self.held[expert] = len(rows)
        return said

    def _memory(self, expert: int) -> tuple[Tensor, Tensor]:
        held = int(self.held[expert])
        return self.rows[expert, :held], self.labels[expert, :held]

    def _vote(self, x: Tensor, rows: Tensor, labels: Tensor, seen: Tensor) -> Tensor:
        """Rows (n, D) asked of memory rows (m, D), of which seen (n, m) may vote, to (n, C)."""
        vote = x.new_full((len(x), self.classes), 1e-9)
        if len(rows) and len(x):
            distance = torch.cdist(self.scale(x), self.scale(rows)).masked_fill(~seen, torch.inf)
            nearest = distance.topk(min(self.k, len(rows)), largest=False)
            vote = vote.scatter_add(1, labels[nearest.indices], 1 / (nearest.values + 1e-3))
        return vote / vote.sum(1, keepdim=True)
