"""A simulated stream of applications, decided by people who are not fair."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FEATURES = ("skill", "experience", "education", "interview", "referral", "district", "commute", "hobbies")
BLOCK = 1000
"""Rows that are drawn at a time."""
MINORITY = 0.4
"""The share of group 1."""
PREJUDICE = -1.0
"""What is added to the score of group 1, whatever its merit."""
APART = 2.0
"""How much lower the district of group 1 lies: it tells the group to models that do not see it."""


@dataclass(frozen=True)
class Hiring:
    """A concept: what the work asks for, and how many referrals group 1 is given.

    weights: of skill, experience and education in the score; referral_gap: by how much the mean of group 1's
    referrals lies below that of group 0.
    """

    weights: tuple[float, float, float]
    referral_gap: float = 0.0

    def __call__(self, seed: int) -> Iterator[tuple[dict[str, float], int]]:
        """Rows without end, each with its label: 1 for hired."""
        random = np.random.default_rng(seed)
        while True:
            group = (random.random(BLOCK) < MINORITY).astype(float)
            values = random.standard_normal((BLOCK, len(FEATURES)))
            values[:, FEATURES.index("district")] -= APART * group
            values[:, FEATURES.index("referral")] -= self.referral_gap * group
            score = values[:, :5] @ np.array([*self.weights, 0.5, 1.5]) + PREJUDICE * group
            hired = score + random.logistic(0.0, 0.5, BLOCK) > 0
            for row, a, label in zip(values.tolist(), group.tolist(), hired.tolist(), strict=True):
                yield {**dict(zip(FEATURES, row, strict=True)), "group": a}, int(label)
