"""The arms of the comparison: EvidenceMoE, its controls, other networks, and what laboratories do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from collegium import inspection
from lightning import seed_everything
from torch import nn

from apps.common.compare import Arm, Cost, Fitted, Outcome, Trial, Value
from apps.common.compare.arms import Place
from apps.common.compare.training import fit_best
from apps.lidar.bound import Prior
from apps.lidar.data import Data, Part
from apps.lidar.estimates import Found, estimates, slices
from apps.lidar.fit import fitted, moments
from apps.lidar.limits import bounds
from apps.lidar.metrics import rank_correlation
from apps.lidar.model import OUTPUTS, EvidenceMoE
from apps.lidar.networks import Convolutional, Recurrent, Single, SoftmaxMixture
from apps.lidar.posterior import ENOUGH, posterior
from apps.lidar.rig import Light
from apps.lidar.task import Task

SETS = ("diffusion", "monte_carlo", "diffusion_unknown", "monte_carlo_unknown")
"""Light, and whether tissue is known; those of the comparison."""
FEW = 300
"""Validation histograms that a rule is asked for."""
UNITS = 50
"""Test units of the intervals: as many stretches of scenes, which are drawn independently."""


def arms(budget: Mapping[str, Any]) -> dict[str, Arm]:
    """Every arm for one budget: scenes, epochs, network, stages of training by arm, trials (see
    configs/lidar/compare.yaml)."""
    options = dict(budget["network"])
    whole = sum(p.numel() for p in EvidenceMoE(**options).parameters())
    networks: dict[str, Callable[[], nn.Module]] = {
        "routed": partial(EvidenceMoE, **options),
        "staged": partial(EvidenceMoE, **options),
        "dense_total": partial(Single.of_size, whole, bins=options["bins"], depth=options["depth"]),
        "random_router": partial(frozen, options),
        "softmax_mixture": partial(SoftmaxMixture, **options),
        "cnn": partial(Convolutional, options["bins"]),
        "gru": partial(Recurrent, options["bins"]),
    }
    found: dict[str, Arm] = {name: Network(budget, name, make) for name, make in networks.items()}
    found["routed_on_diffusion"] = Network(budget, "routed", networks["routed"], elsewhere=True)
    return found | {name: Rule(budget, name) for name in ("posterior_mean", "least_squares", "moments")}


def frozen(options: Mapping[str, Any]) -> EvidenceMoE:
    """EvidenceMoE whose trust in its experts stays as it was drawn."""
    network = EvidenceMoE(**options)
    network.experts.router.requires_grad_(False)
    network.mixture.requires_grad_(False)
    return network


def data_for(name: str, budget: Mapping[str, Any], seed: int = 0) -> Data:
    """The module of a set of the comparison; every seed has the same scenes in another order."""
    light: Light = "monte_carlo" if name.startswith("monte_carlo") else "diffusion"
    known = not name.endswith("_unknown")
    return Data(light, known, budget["scenes"], budget["held_out"], budget["batch_size"], batch_seed=seed)


def data_sha256(name: str) -> str:
    """The hash of the light of a set's first test scenes."""
    data = data_for(name, {"scenes": 1, "held_out": 64, "batch_size": 1})
    return hashlib.sha256(data.part("test").light.numpy().tobytes()).hexdigest()


class Network(Arm):
    """A network, trained as `make train` does; the epoch of least validation error is kept.

    Args:
        budget: scenes, epochs, trials, and below `networks` what the task of this one is told.
        name: of that entry.
        make: builds it.
        elsewhere: train on the light of diffusion theory, whatever is measured.
    """

    def __init__(
        self, budget: Mapping[str, Any], name: str, make: Callable[[], nn.Module], elsewhere: bool = False
    ) -> None:
        self.budget, self.name, self.make, self.elsewhere = budget, name, make, elsewhere
        self.own = budget["networks"].get(name, {})
        self.settings = {"network": name, "elsewhere": elsewhere, "options": budget["network"], **self.own}
        self.trials = budget["trials"]

    def same_as(self, data: str, trial: Trial) -> tuple[str, Trial] | None:
        """EvidenceMoE itself, where it is trained on the light that it is measured on."""
        return ("routed", trial) if self.elsewhere and data.startswith("diffusion") else None

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Train with Lightning."""
        seed_everything(seed, verbose=False)
        own = data.replace("monte_carlo", "diffusion") if self.elsewhere else data
        module = data_for(own, self.budget, seed)
        task = Task(self.make(), **self.own, balance={}, learning_rate=trial["learning_rate"])
        fit_best(task, module, self.budget["epochs"], seed)
        return FittedNetwork(task.network, data_for(data, self.budget), data)


class FittedNetwork(Fitted):
    """A trained network."""

    def __init__(self, network: nn.Module, data: Data, name: str) -> None:
        self.network, self.data, self.name = network, data, name
        found = estimates(network, data.part("validation"))
        self.validation = score(found.value, found.truth, data)

    def test(self) -> Outcome:
        """Open the test histograms."""
        found = estimates(self.network, self.data.part("test"))
        active, total = inspection.parameters(self.network)
        batch = self.data.part("test").__getitems__([0])
        cost = Cost(active, total, float(inspection.flops(self.network, batch.reading)))
        return outcome(found, self.data, cost)


class Rule(Arm):
    """An estimate without training.

    `least_squares`, the likeliest parameters; `moments`; `posterior_mean`, the best there is. Each takes the
    light for that of diffusion theory.
    """

    seeded = False

    def __init__(self, budget: Mapping[str, Any], name: str) -> None:
        self.budget, self.name, self.settings = budget, name, {"rule": name}

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Nothing to fit: each histogram is fitted when it is read."""
        return FittedRule(self.name, data_for(data, self.budget))


class FittedRule(Fitted):
    """A rule, ready to be asked. It has nothing to choose, so few validation histograms do."""

    def __init__(self, name: str, data: Data) -> None:
        self.name, self.data = name, data
        self.also: list[Value] = []
        found = self.ask("validation", FEW)
        self.validation = score(found.value, found.truth, data)

    def test(self) -> Outcome:
        """Open the test histograms. Of the posterior, tell also of how many the sample was large enough."""
        found = outcome(self.ask("test"), self.data, Cost())
        return replace(found, values=[*found.values, *self.also])

    def ask(self, part: Part, number: int | None = None) -> Found:
        """Its estimates; of the posterior, the quality is minus the deviation."""
        histograms, data = self.data.part(part), self.data
        assert histograms.counts is not None
        scenes, counts = histograms.truth[slice(number)], histograms.counts[:number]
        prior = Prior.of(scenes, histograms.tissue[:number] if data.known_tissue else None, data.ranges)
        truth = torch.stack([getattr(scenes, name) for name in OUTPUTS], dim=1)
        unsaid = torch.full_like(truth, torch.nan)
        if self.name == "posterior_mean":
            value, unsaid, worth = posterior(counts, prior, data.rig, torch.Generator().manual_seed(0))
            enough = float((worth >= ENOUGH).double().mean())
            self.also = [Value("all", "share_sampled_well", enough, True)]
        elif self.name == "moments":
            value = moments(counts, prior, data.ranges, data.rig)
        else:
            value = fitted(counts, prior, data.rig)
        nobody = np.zeros((len(scenes), 0, len(OUTPUTS)))
        return Found(value.numpy(), truth.numpy(), -unsaid.numpy(), unsaid.numpy(), nobody, scenes)


def score(value: np.ndarray, true: np.ndarray, data: Data) -> float:
    """Mean of the squared errors of both outputs, in units of their ranges."""
    spans = np.array([np.ptp(getattr(data.ranges, name)) for name in OUTPUTS])
    return float((((value - true) / spans) ** 2).mean())


def outcome(found: Found, data: Data, cost: Cost) -> Outcome:
    """Errors of test histograms, and their ratios to the physical limit; of parts the ratios alone."""
    limits = bounds(data.ranges, data.rig, data.known_tissue)
    values: list[Value] = []
    units: dict[Place, np.ndarray] = {}
    weights: dict[Place, np.ndarray] = {}
    for part, some in slices(found, data.ranges):
        errors = {name: some.value[:, i] - some.truth[:, i] for i, name in enumerate(OUTPUTS)}
        for place, (name, error) in enumerate(errors.items()):
            size = float(np.sqrt(np.mean(error**2)))
            ratio = size / limits[part][name] ** 0.5
            if part == "all":  # parts have neither units nor errors, or the files of results grow too large
                span = float(np.ptp(getattr(data.ranges, name)))
                square = (error / span) ** 2
                stretches = np.array_split(square, min(UNITS, len(square)))
                units[part, f"nmse_{name}"] = np.array([stretch.mean() for stretch in stretches])
                weights[part, f"nmse_{name}"] = np.array([float(len(stretch)) for stretch in stretches])
                values.append(Value(part, f"nmse_{name}", float(square.mean()), False))
                values.append(Value(part, f"nrmse_{name}", size / span, False))
            values.append(Value(part, f"ratio_to_bound_{name}", ratio, False))
            if part == "all" and np.isfinite(some.quality).all():
                rank = rank_correlation(some.quality[:, place], error)
                values.append(Value(part, f"rank_{name}", rank, True))
    return Outcome(values, units, cost, weights)
