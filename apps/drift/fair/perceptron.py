"""A perceptron that is trained as the mixture is, fairness included: what the mixture is compared with."""

import torch
from torch import Tensor, nn

from apps.drift.experts.scale import RunningScale
from apps.drift.fair.fairness import Measure
from apps.drift.fair.objective import Objective
from apps.drift.memory import Memory
from apps.drift.model import Found, StreamModel


class FairPerceptron(StreamModel):
    """p(y = 1 | x) = sigmoid(v relu(W x + c) + b), trained by log-loss + weight * unfairness.

    Features, memory and replay are those of `apps.drift.fair.linear.FEAMOE`.

    Args:
        hidden: width of the hidden layer.
        measure: of unfairness: "parity" or "odds"; burden has no closed form here.
        weight, sharpness: of its penalty in the loss, see `Objective`.
        memory: rows that are remembered.
        replay: how many of them count at each step.
        seed: of the draws.

    Raises:
        ValueError: the measure is burden.
    """

    def __init__(
        self,
        hidden: int,
        measure: Measure = "parity",
        weight: float = 1.0,
        sharpness: float = 1.0,
        memory: int = 2000,
        replay: int = 496,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if measure == "burden":
            raise ValueError(
                "the distance from the boundary of a perceptron is not known: take another measure"
            )
        self.hidden, self.objective = hidden, Objective(measure, weight, sharpness)
        self.memory_size, self.replay, self.seed = memory, replay, seed
        self.expert_names = ["perceptron"]

    def assemble(self, features: int, classes: int) -> None:
        """The layers. Raises ValueError where there are not two classes."""
        if classes != 2:
            raise ValueError(f"FairPerceptron tells two classes apart, and this stream has {classes}")
        self.layers = nn.Sequential(nn.Linear(features, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 1))
        self.scale = RunningScale(features)
        self.memory = Memory(features + 1, self.memory_size, self.seed)

    def forward(self, x: Tensor) -> Tensor:
        """Its word."""
        return _both(self.layers(self.scale(x)))

    def learn(self, x: Tensor, y: Tensor, group: Tensor | None = None) -> Found:
        """One chunk; without groups there is no penalty."""
        group = torch.full_like(y, -1) if group is None else group
        old, old_y = self.memory.draw(self.replay)
        logit = self.layers(self.scale(torch.cat([x, old[:, :-1]])))
        labels, groups = torch.cat([y, old_y]), torch.cat([group, old[:, -1].long()])
        trust = torch.ones_like(logit)
        loss = self.objective(logit, trust[0], trust, labels, groups)
        self.memory.keep(torch.cat([x, group[:, None].to(x.dtype)], 1), y)
        self.scale.update(x)
        probs = _both(logit[: len(x)].detach())
        return Found(probs, probs[:, None], trust[: len(x)], loss)


def _both(logit: Tensor) -> Tensor:
    """Probabilities (N, 2) of logits (N, 1)."""
    return torch.cat([(-logit).sigmoid(), logit.sigmoid()], 1)
