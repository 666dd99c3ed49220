"""The arms of the fair comparison: the mixture, its controls and ablations, and what the field would pick."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from lightning import seed_everything

from apps.common.compare import Arm, Cost, Fitted, Trial
from apps.drift.comparison.fair import (
    MeasuredFairness,
    Prequential,
    Table,
    accuracy_of,
    early_rows,
    stream,
)
from apps.drift.comparison.refitted import Logistic, Peer, Perceptron, Reductions, Refitted
from apps.drift.data import Data
from apps.drift.fair.fairness import Measure
from apps.drift.learner import model_of
from apps.drift.metrics import FLOORS, Rule
from apps.drift.model import step

LEARNERS: dict[str, Callable[..., Peer]] = {
    "logistic": lambda seed, **options: Logistic(**options),
    "perceptron": Perceptron,
    "reductions": Reductions,
}
"""What a peer's entry below `networks` may name: seed and options -> the learner."""


def fair_arms(budget: Mapping[str, Any]) -> dict[str, Arm]:
    """Every arm for one budget: networks, peers among them, and trials (see configs/drift/compare.yaml)."""
    networks: dict[str, Arm] = {
        name: FairPeer(budget, name) if "learner" in told else FairNetwork(budget, name)
        for name, told in budget["networks"].items()
    }
    return networks | {name: FairFloor(budget, name) for name in FLOORS}


class FairArm(Arm):
    """An arm that is chosen by a gap at a stated accuracy: that of a logistic regression on the same rows.

    Args:
        budget: gives rows, block, slack, and the arm's trials.
        name: of the arm.
        measure: of fairness, of that gap.
    """

    def __init__(self, budget: Mapping[str, Any], name: str, measure: Measure) -> None:
        self.budget, self.measure = budget, measure
        self.trials = budget["trials"].get(name, [{}])

    @abstractmethod
    def learner(self, data: Data, trial: Trial, seed: int) -> Prequential:
        """It, before the first row."""

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Go over the early rows."""
        rows, block = stream(data, self.budget["rows"]), self.budget["block"]
        reference = accuracy_of(early_rows(Refitted(rows, Logistic, block), block))
        learner = self.learner(rows, trial, seed)
        return MeasuredFairness(learner, self.measure, reference, self.budget)


class FairNetwork(FairArm):
    """A stream model trained with AdamW; a trial gives arguments of the model, or of these.

    Args:
        budget: gives the model's entry below `networks`: class_path, init_args, chunk, learning_rate and
            weight_decay.
        name: of that entry.
    """

    def __init__(self, budget: Mapping[str, Any], name: str) -> None:
        self.settings = budget["networks"][name]
        super().__init__(budget, name, self.settings["init_args"]["measure"])

    def learner(self, data: Data, trial: Trial, seed: int) -> Prequential:
        """The model, untrained."""
        told = {**self.settings, "init_args": {**self.settings["init_args"], "seed": seed}}
        for name, value in trial.items():
            (told if name in told else told["init_args"])[name] = value
        return Chunks(data, told, seed)


class Chunks(Prequential):
    """A stream model: predicts a chunk of rows, then learns them.

    Args:
        data: the stream.
        told: class_path, init_args, chunk, learning_rate, weight_decay.
        seed: of its weights.
    """

    def __init__(self, data: Data, told: Mapping[str, Any], seed: int) -> None:
        super().__init__(data)
        seed_everything(seed, verbose=False)
        self.chunk = told["chunk"]
        self.network = model_of({name: told[name] for name in ("class_path", "init_args")})
        self.network.build(len(data.features), data.labels.capacity)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        rate, decay = told["learning_rate"], told["weight_decay"]
        self.optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=decay)

    def step(self, end: int) -> Table:
        """One chunk."""
        rows = slice(self.at, min(end, self.at + self.chunk))
        x, y, group = (part[rows] for part in (self.data.x, self.data.y, self.data.group))
        found = step(self.network, self.optimizer, x, y, group)
        self.present = len(self.network.expert_names) / found.trust.shape[1]
        distance = {"distance": found.notes["distance"].numpy()} if "distance" in found.notes else {}
        return {"predicted": found.probs.argmax(1).numpy(), **distance}

    def cost(self) -> Cost:
        """Its parameters; experts that do not exist yet are not active."""
        total = sum(p.numel() for p in self.network.parameters())
        return Cost(round(total * self.present), total)


class FairPeer(FairArm):
    """A learner of scikit-learn or fairlearn.

    Args:
        budget: gives the entry below `networks`: learner, one of `LEARNERS`; measure; seeded; options; and
            perhaps recent, the last rows to which it is fitted.
        name: of that entry.
    """

    def __init__(self, budget: Mapping[str, Any], name: str) -> None:
        self.settings = budget["networks"][name]
        super().__init__(budget, name, self.settings["measure"])
        self.seeded = self.settings["seeded"]

    def learner(self, data: Data, trial: Trial, seed: int) -> Prequential:
        """It, unfitted."""
        make = partial(LEARNERS[self.settings["learner"]], seed=seed, **self.settings["options"], **trial)
        return Refitted(data, make, self.budget["block"], self.settings.get("recent"))


class FairFloor(FairArm):
    """A rule that looks at past labels alone.

    Args:
        budget: see `FairArm`.
        name: of FLOORS.
    """

    seeded = False

    def __init__(self, budget: Mapping[str, Any], name: str) -> None:
        super().__init__(budget, name, "parity")
        self.rule = FLOORS[name]

    def learner(self, data: Data, trial: Trial, seed: int) -> Prequential:
        """The rule."""
        return ByRule(data, self.rule)


class ByRule(Prequential):
    """Says what a rule makes of the labels so far."""

    def __init__(self, data: Data, rule: Rule) -> None:
        super().__init__(data)
        self.rule = rule

    def step(self, end: int) -> Table:
        """All rows at once."""
        return {"predicted": self.rule(self.data.y[:end].numpy())[self.at :]}
