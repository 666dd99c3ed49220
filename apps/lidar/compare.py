"""The arms of the comparison: EvidenceMoE, its controls, other networks, and what laboratories do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from collegium import inspection
from lightning import seed_everything
from torch import Tensor, nn

from apps.common.compare import Arm, Cost, Fitted, Outcome, Trial, Value
from apps.common.compare.training import fit_best
from apps.lidar.bound import Prior
from apps.lidar.data import Data, Histograms, Light, Part
from apps.lidar.estimates import estimates
from apps.lidar.fit import fitted, moments
from apps.lidar.limits import bounds
from apps.lidar.metrics import nrmse, rank_correlation, rmse
from apps.lidar.model import OUTPUTS, EvidenceMoE
from apps.lidar.networks import Convolutional, Recurrent, Single, SoftmaxMixture
from apps.lidar.posterior import posterior
from apps.lidar.task import Task

SETS = ("diffusion", "monte_carlo", "diffusion_unknown", "monte_carlo_unknown")
"""Light, and whether tissue is known; those of the comparison."""
FEW = 300
"""Validation histograms that a rule is asked for."""


def arms(budget: Mapping[str, Any]) -> dict[str, Arm]:
    """Every arm for one budget: scenes, epochs, network, trials (see configs/lidar/compare.yaml)."""
    options = dict(budget["network"])
    whole = sum(p.numel() for p in EvidenceMoE(**options).parameters())
    networks: dict[str, Callable[[], nn.Module]] = {
        "routed": partial(EvidenceMoE, **options),
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
    return Data(light, known, budget["scenes"], budget["held_out"], budget["batch_size"], order=seed)


def data_sha256(name: str) -> str:
    """The hash of the light of a set's first test scenes."""
    data = data_for(name, {"scenes": 1, "held_out": 64, "batch_size": 1})
    return hashlib.sha256(data.part("test").light.numpy().tobytes()).hexdigest()


class Network(Arm):
    """A network, trained as `make train` does; the epoch of least validation error is kept.

    Args:
        budget: scenes, epochs, trials.
        name: of its trials.
        make: builds it.
        elsewhere: train on the light of diffusion theory, whatever is measured.
    """

    def __init__(
        self, budget: Mapping[str, Any], name: str, make: Callable[[], nn.Module], elsewhere: bool = False
    ) -> None:
        self.budget, self.name, self.make, self.elsewhere = budget, name, make, elsewhere
        self.settings = {"network": name, "elsewhere": elsewhere, "options": budget["network"]}
        self.trials = budget["trials"]

    def same_as(self, data: str, trial: Trial) -> tuple[str, Trial] | None:
        """EvidenceMoE itself, where it is trained on the light that it is measured on."""
        return ("routed", trial) if self.elsewhere and data.startswith("diffusion") else None

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Train with Lightning."""
        seed_everything(seed, verbose=False)
        own = data.replace("monte_carlo", "diffusion") if self.elsewhere else data
        module = data_for(own, self.budget, seed)
        task = Task(self.make(), balance={}, learning_rate=trial["learning_rate"])
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
        quality = found.quality if np.isfinite(found.quality).all() else None
        return outcome(found.value, found.truth, self.data, cost, quality)


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
        value, true, _ = self._ask("validation", FEW)
        self.validation = score(value, true, data)

    def test(self) -> Outcome:
        """Open the test histograms."""
        value, true, quality = self._ask("test")
        return outcome(value, true, self.data, Cost(), quality)

    def _ask(self, part: Part, number: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        histograms, data = self.data.part(part), self.data
        assert histograms.counts is not None
        scenes, counts = histograms.truth[slice(number)], histograms.counts[:number]
        tissue = histograms.tissue[:number] if data.known_tissue else None
        prior, true = Prior.of(scenes, tissue, data.ranges), truth(histograms)[:number]
        if self.name == "moments":
            return moments(counts, prior, data.ranges, data.clock).numpy(), true, None
        if self.name == "least_squares":
            return fitted(counts, prior, data.clock).numpy(), true, None
        found = posterior(counts, prior, data.clock, torch.Generator().manual_seed(0))
        return found.mean.numpy(), true, -found.deviation.numpy()


def truth(histograms: Histograms) -> np.ndarray:
    """True outputs (N, 2)."""
    values: Tensor = torch.stack([getattr(histograms.truth, name) for name in OUTPUTS], dim=1)
    return values.numpy()


def score(value: np.ndarray, true: np.ndarray, data: Data) -> float:
    """Mean of the squared errors of both outputs, in units of their ranges."""
    spans = np.array([np.ptp(getattr(data.ranges, name)) for name in OUTPUTS])
    return float((((value - true) / spans) ** 2).mean())


def least(data: Data) -> tuple[float, float]:
    """The root of the least mean squared error of both outputs, with the light of diffusion theory."""
    found = bounds(data.ranges, data.clock, data.detector, data.known_tissue)
    depth, lifetime = (float(np.mean(found[name])) ** 0.5 for name in OUTPUTS)
    return depth, lifetime


def outcome(
    value: np.ndarray, true: np.ndarray, data: Data, cost: Cost, quality: np.ndarray | None = None
) -> Outcome:
    """Errors of test histograms, the units; and their ratio to the physical limit."""
    values: list[Value] = []
    units: dict[tuple[str, str], np.ndarray] = {}
    for place, (name, limit) in enumerate(zip(OUTPUTS, least(data), strict=True)):
        error = value[:, place] - true[:, place]
        span = float(np.ptp(getattr(data.ranges, name)))
        units["all", f"nmse_{name}"] = (error / span) ** 2
        values += [
            Value("all", f"nrmse_{name}", nrmse(value[:, place], true[:, place], span), False),
            Value("all", f"nmse_{name}", float(units["all", f"nmse_{name}"].mean()), False),
            Value("all", f"ratio_to_bound_{name}", rmse(value[:, place], true[:, place]) / limit, False),
        ]
        if quality is not None:
            values.append(Value("all", f"rank_{name}", rank_correlation(quality[:, place], error), True))
    return Outcome(values, units, cost)
