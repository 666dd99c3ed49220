"""Naive Bayes that forgets."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from apps.drift.experts.alone import Alone, before


class Bayes(Alone):
    """Gaussian naive Bayes, an expert for each speed of forgetting.

    Each class has a mean and a deviation of every feature, from the rows so far; a row's weight fades by the
    same factor at every row that follows.

    Args:
        features: D.
        classes: C.
        memories: of each expert, the rows that count: a row fades by 1 - 1 / memory; 0 forgets nothing.
    """

    moments: Tensor
    seen: Tensor
    origin: Tensor

    def __init__(self, features: int, classes: int, memories: Sequence[int] = (300, 0)) -> None:
        super().__init__(len(memories), classes)
        self.names = [f"bayes {memory or 'all'}" for memory in memories]
        self.decays = [1 - 1 / memory if memory else 1.0 for memory in memories]
        shape = (self.num_experts, classes, 2 * features)
        self.register_buffer("seen", torch.zeros(shape[:2], dtype=torch.float64))
        self.register_buffer("moments", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("origin", torch.zeros(features, dtype=torch.float64))

    def answer(self, expert: int, x: Tensor) -> Tensor:
        """Probabilities by Bayes' rule."""
        seen = self.seen[expert].expand(len(x), -1)
        moments = self.moments[expert].expand(len(x), -1, -1)
        return self._posterior(x.double() - self.origin, seen, moments)

    def lesson(self, expert: int, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Count rows in."""
        if not len(x):
            return x.new_zeros(0, self.classes)
        decay = self.decays[expert]
        if not self.seen.any():
            self.origin.copy_(x[0].double())  # near the data, or squares would swallow the deviations
        centred = x.double() - self.origin
        start, rows, end = before(weight, decay)
        label = F.one_hot(y, self.classes).double()
        powers = torch.cat([centred, centred.square()], 1)
        seen = start[:, None] * self.seen[expert] + rows @ label
        told = torch.einsum("ij,jc,jp->icp", rows, label, powers)
        said = self._posterior(centred, seen, start[:, None, None] * self.moments[expert] + told)
        left = decay ** len(x)
        self.seen[expert] = left * self.seen[expert] + end @ label
        self.moments[expert] = left * self.moments[expert] + torch.einsum("j,jc,jp->cp", end, label, powers)
        return said

    def _posterior(self, x: Tensor, seen: Tensor, moments: Tensor) -> Tensor:
        """Rows (n, D) with counts (n, C) and sums of first and second powers (n, C, 2 D) to (n, C)."""
        total = moments.sum(1, keepdim=True) / seen.sum(1).clamp(min=1e-9)[:, None, None]
        first, second = (moments / seen.clamp(min=1e-9)[:, :, None]).chunk(2, -1)
        whole_first, whole_second = total.chunk(2, -1)
        usual = (whole_second - whole_first.square()).clamp(min=0.0)
        used = usual > 1e-12
        floor = torch.where(used, 1e-3 * usual, 1.0)
        variance = (second - first.square()).clamp(min=0.0) + floor
        distance = (x[:, None] - first).square() / variance + variance.log()
        score = (seen + 1e-3).log() - distance.where(used, 0.0).sum(-1) / 2
        score = score.masked_fill(seen <= 0, -torch.inf)
        nothing = (seen <= 0).all(1, keepdim=True)
        return score.masked_fill(nothing, 0.0).softmax(1).float()
