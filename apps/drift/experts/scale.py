"""The scale of features, as far as a stream has shown it."""

import torch
from torch import Tensor, nn


class RunningScale(nn.Module):
    """Mean and deviation of each feature so far, older rows forgotten.

    Args:
        features: D.
        memory: the rows that count; each later row weighs 1 / memory.
        limit: how many deviations a value may lie from the mean before it is cut.
    """

    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, features: int, memory: int = 1000, limit: float = 5.0) -> None:
        super().__init__()
        self.memory, self.limit = memory, limit
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("variance", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Rows (B, D) less the mean, in deviations, float32. The first rows have their own scale."""
        mean, variance = (self.mean, self.variance) if self.seen > 0 else _moments(x)
        z = (x.double() - mean) / (variance + 1e-12).sqrt()
        constant = variance <= 1e-12 * (1 + mean.square())
        return z.masked_fill(constant, 0.0).clamp(-self.limit, self.limit).float()

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take rows (B, D) in."""
        if not len(x):
            return
        self.seen += len(x)
        mean, variance = _moments(x)
        share = max(len(x) / float(self.seen), 1 - (1 - 1 / self.memory) ** len(x))
        moved = mean - self.mean
        self.variance += share * (variance + (1 - share) * moved.square() - self.variance)
        self.mean += share * moved


def update_scales(model: nn.Module, x: Tensor) -> None:
    """Take rows (B, D) in wherever a model keeps their scale."""
    for module in model.modules():
        if isinstance(module, RunningScale):
            module.update(x)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.double()
    return x.mean(0), x.var(0, unbiased=False)
