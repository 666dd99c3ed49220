"""Networks trained by gradient descent, as arms."""

from collections.abc import Mapping
from typing import Any

import torch
from collegium import inspection
from lightning import seed_everything
from torch import nn

from apps.common.compare import Arm, Cost, Fitted, Trial
from apps.common.compare.training import fit_best
from apps.common.controls import KINDS, Kind
from apps.common.errors import UserError
from apps.timeseries.comparison.budgets import budget_for, module_for
from apps.timeseries.comparison.contenders import ROUTED, build
from apps.timeseries.comparison.measured import Measured
from apps.timeseries.comparison.rolling import Rolling
from apps.timeseries.data import Data
from apps.timeseries.model import Forecaster
from apps.timeseries.pretraining import Pretraining
from apps.timeseries.task import Task


def trained(budget: Mapping[str, Any], measured: type[Measured] = Measured) -> dict[str, Arm]:
    """The routed network of each set, its controls, and each network and its controls by name."""
    found: dict[str, Arm] = {kind: Chosen(budget, kind, measured) for kind in KINDS}
    for name in budget["networks"]:
        if name != "zero_shot":
            kinds = KINDS if name in ROUTED else KINDS[:1]
            found |= {named(name, kind): Trained(budget, name, measured, kind) for kind in kinds}
    return found


def named(network: str, kind: Kind) -> str:
    """The arm of a network, or of a control of it."""
    return network if kind == "routed" else f"{kind}_of_{network}"


PRETRAINING_STRIDE = 17
"""Rows between validation windows of pretraining, at the least: its sets are long, whichever is tested."""


class Trained(Rolling):
    """A network, or a control of it, trained by gradient descent; the best epoch on validation is kept."""

    def __init__(
        self,
        budget: Mapping[str, Any],
        name: str,
        measured: type[Measured] = Measured,
        kind: Kind = "routed",
    ) -> None:
        self.budget, self.name, self.measured, self.kind = budget, name, measured, kind
        self.settings = {"network": name, **budget_for(None, budget)["networks"][name]}
        if kind != "routed":
            self.settings["kind"] = kind
        self.trials = budget["trials"][name]

    def network(self, data: str) -> str:
        """The network to train on a set, as named in the budget."""
        return self.name

    def training_data(
        self, data: str, budget: Mapping[str, Any], seed: int, batch_size: int, joint: bool = False
    ) -> Data:
        """What to train and validate on for a set: its own windows."""
        return module_for(data, budget, seed, batch_size=batch_size, joint=joint)

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Train with Lightning on one set for all horizons at once."""
        seed_everything(seed, verbose=False)
        budget = budget_for(data, self.budget)
        name = self.network(data)
        trial = trial.get(name, trial)
        told = budget["networks"][name]
        module = self.training_data(data, budget, seed, told["batch_size"], told.get("joint", False))
        options = {key: value for key, value in trial.items() if key != "learning_rate"}
        network = build(name, budget, self.kind, options)
        module.max_windows_per_epoch = windows_left(network, module, budget["epochs"])
        task = Task(
            network,
            balance=told["balance"],
            learning_rate=trial["learning_rate"] * told.get("rate", 1.0),
            warmup_steps=budget["warmup_steps"],
        )
        score = fit_best(task, module, budget["epochs"], seed)
        return self.measured(network, data, budget, score, _cost(network, budget["context"]), module.joint)


class Chosen(Trained):
    """The network that the budget calls `routed` on a set, as it is or as a control."""

    def __init__(self, budget: Mapping[str, Any], kind: Kind, measured: type[Measured] = Measured) -> None:
        self.budget, self.kind, self.measured = budget, kind, measured
        trials = {name: budget["trials"][name] for name in sorted(set(budget["routed"].values()))}
        self.trials = [dict(zip(trials, some, strict=True)) for some in zip(*trials.values(), strict=True)]

    def same_as(self, data: str, trial: Trial) -> tuple[str, Trial] | None:
        """The arm of that network: a cell then stays what it is when another set has another network."""
        name = self.network(data)
        return named(name, self.kind), trial[name]

    def network(self, data: str) -> str:
        """The one named for the set, or the default."""
        routed = self.budget["routed"]
        return str(routed.get(data, routed["default"]))


class ZeroShot(Trained):
    """A network that never saw the set: pretrained on synthetic priors and training parts of other sets.

    It validates on what is held out of these.
    """

    def __init__(self, budget: Mapping[str, Any]) -> None:
        told = budget["networks"]["zero_shot"]
        super().__init__(budget, told["network"])
        self.pretraining = told["pretraining"]
        self.settings = {**self.settings, "pretraining": self.pretraining}

    def score(self, data: str, trial: Trial, seed: int) -> float:
        """By what is held out of its own data, of which there is enough."""
        return self.fit(data, trial, seed).validation

    def training_data(
        self, data: str, budget: Mapping[str, Any], seed: int, batch_size: int, joint: bool = False
    ) -> Data:
        """Priors, and the sets that the budget names for this one, each with the same weight."""
        options = {**self.pretraining, "sets": dict.fromkeys(self.pretraining["sets"].get(data, []), 1.0)}
        thin = {**budget, "validation_stride": max(budget["validation_stride"], PRETRAINING_STRIDE)}
        pretraining = Pretraining(**options, seed=seed)
        return module_for(None, thin, seed, batch_size=batch_size, pretraining=pretraining, joint=joint)


def windows_left(network: Forecaster, data: Data, epochs: int) -> int:
    """Windows an epoch, so that with those that the network prepares on all arms see as many."""
    windows = len(data.windows("train"))
    left = min(windows, data.max_windows_per_epoch or windows) - network.prepared_on // epochs
    if left < 1:
        raise UserError(
            f"{network.prepared_on} windows of preparation leave none to train on: lower twin_steps."
        )
    return left


def _cost(network: nn.Module, context: int) -> Cost:
    active, total = inspection.parameters(network)
    window = torch.zeros(1, context), torch.ones(1, context, dtype=torch.bool)
    flops = inspection.flops(network, *window)
    return Cost(active_params=active, total_params=total, active_flops=float(flops))
