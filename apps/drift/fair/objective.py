"""What a mixture of linear experts is trained for."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from apps.drift.fair.fairness import Measure, distance_to_boundary, penalty
from apps.drift.model import SMALLEST


@dataclass(frozen=True)
class Objective:
    """Log-loss + weight * a penalty of unfairness.

    Args:
        measure: of unfairness.
        weight: of its penalty.
        sharpness: the penalty is of sigmoid(sharpness * logit p) in the place of p. Groups may be alike in
            their mean p and yet unlike in how many get the wanted outcome, p > 1/2: what is sharper is nearer
            to that, and its gradient to the rows near the boundary.

    Raises:
        ValueError: the weight is negative, or the sharpness not positive.
    """

    measure: Measure = "parity"
    weight: float = 1.0
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError("the weight of unfairness must not be negative")
        if self.sharpness <= 0:
            raise ValueError("the sharpness of unfairness must be positive")

    def __call__(self, logit: Tensor, length: Tensor, trust: Tensor, label: Tensor, group: Tensor) -> Tensor:
        """The loss of rows, a scalar.

        Args:
            logit: (N, E) w_k x + b_k.
            length: (E,) |w_k|.
            trust: (N, E) the gate.
            label, group: (N,) int64.
        """
        chance = (trust * logit.sigmoid()).sum(1).clamp(SMALLEST, 1 - SMALLEST)
        loss = F.binary_cross_entropy(chance, label.to(chance.dtype))
        if not self.weight:
            return loss
        distance = distance_to_boundary(logit, length, trust)
        outcome = (self.sharpness * chance.logit()).sigmoid()
        return loss + self.weight * penalty(self.measure, outcome, label, group, distance)

    def alone(self, weight: Tensor, bias: Tensor, x: Tensor, label: Tensor, group: Tensor) -> Tensor:
        """The loss of one expert, weight (D,) and bias (), by itself on rows (N, D)."""
        logit = (x @ weight + bias)[:, None]
        return self(logit, weight.norm()[None], torch.ones_like(logit), label, group)
