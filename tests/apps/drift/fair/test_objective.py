"""The loss of a mixture of linear experts, by hand."""

from math import log

import pytest
import torch
from torch import Tensor

from apps.drift.fair.objective import Objective

LABEL, GROUP = torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1])
CHANCE = torch.tensor([0.8, 0.4, 0.6, 0.5], dtype=torch.float64)


def loss(objective: Objective, chance: Tensor = CHANCE) -> float:
    """Of one expert."""
    logit = chance.logit()[:, None]
    return float(objective(logit, torch.ones(1), torch.ones_like(logit), LABEL, GROUP))


LOG_LOSS = -(log(0.8) + log(0.6) + log(0.6) + log(0.5)) / 4


def test_log_loss_and_the_penalty_of_probabilities() -> None:
    assert loss(Objective(weight=0.0)) == pytest.approx(LOG_LOSS)
    assert loss(Objective(weight=2.0)) == pytest.approx(LOG_LOSS + 2 * (0.6 - 0.55))


def test_a_sharp_penalty_is_of_sharper_probabilities() -> None:
    # sigmoid(2 logit p) is p^2 / (p^2 + (1 - p)^2)
    sharp = [p**2 / (p**2 + (1 - p) ** 2) for p in CHANCE.tolist()]
    gap = (sharp[0] + sharp[1]) / 2 - (sharp[2] + sharp[3]) / 2
    assert loss(Objective(weight=1.0, sharpness=2.0)) == pytest.approx(LOG_LOSS + gap)


def test_the_sharpest_penalty_is_the_gap_of_decisions() -> None:
    alike = torch.tensor([0.9, 0.3, 0.6, 0.6], dtype=torch.float64)  # both groups have the mean 0.6
    soft, hard = (loss(Objective(weight=w, sharpness=s), alike) for w, s in ((1.0, 1.0), (1.0, 1000.0)))
    plain = loss(Objective(weight=0.0), alike)
    assert soft - plain == pytest.approx(0.0, abs=1e-9)
    assert hard - plain == pytest.approx(0.5)  # one of two, and two of two
