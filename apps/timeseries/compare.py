"""The arms of the comparison: the routed forecaster, its controls, and what the field would pick instead."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from collegium import inspection
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from apps.common.callbacks import SeedEachStep
from apps.common.compare import Arm, Cost, Fitted, Outcome, Trial, Value
from apps.common.controls import KINDS, Kind
from apps.timeseries.baselines import Ridge, repeat_last, seasonal_naive
from apps.timeseries.contenders import build
from apps.timeseries.data import Data
from apps.timeseries.metrics import average, mae, mse
from apps.timeseries.pretraining import Pretraining
from apps.timeseries.simulate import simulate
from apps.timeseries.task import Task
from apps.timeseries.windows import Windows

SIMULATED = "simulated"
"""The name under which the embedded series are compared."""

Rule = Callable[[Tensor, Tensor, int], Tensor]
"""context (B, L), context_mask (B, L), horizon -> (B, H)."""


def arms(budget: Mapping[str, Any]) -> dict[str, Arm]:
    """Every arm, for one budget: context, horizons, training (see configs/timeseries/compare.yaml)."""
    found: dict[str, Arm] = {kind: Chosen(budget, kind) for kind in KINDS}
    found |= {name: Trained(budget, name) for name in budget["networks"] if name != "zero_shot"}
    found["zero_shot"] = ZeroShot(budget)
    found["ridge"] = Linear(budget)
    found["seasonal_naive"] = Untrained(budget, lambda data: partial(seasonal_naive, season=data.season))
    found["repeat_last"] = Untrained(budget, lambda data: repeat_last)
    return found


def data_sha256(name: str) -> str | None:
    """The hash of the simulated series; other names are the catalogue's."""
    if name != SIMULATED:
        return None
    return hashlib.sha256(simulate().values.tobytes()).hexdigest()


class Trained(Arm):
    """A network trained by gradient descent; the epoch of least validation error is kept."""

    kind: Kind = "routed"

    def __init__(self, budget: Mapping[str, Any], name: str) -> None:
        self.budget, self.name = budget, name
        self.settings = {"network": name, **budget["networks"][name]}
        self.trials = budget["trials"][name]

    def network(self, data: str) -> str:
        """The network to train on a set, as named in the budget."""
        return self.name

    def training_data(self, data: str, budget: Mapping[str, Any], seed: int, batch_size: int) -> Data:
        """What to train and validate on for a set: its own windows."""
        return module_for(data, budget, seed, batch_size=batch_size)

    def fit(self, data: str, trial: Trial, seed: int) -> "Measured":
        """Train with Lightning on one set for all horizons at once."""
        seed_everything(seed, verbose=False)
        budget = budget_for(data, self.budget)
        name = self.network(data)
        trial = trial.get(name, trial)
        told = budget["networks"][name]
        module = self.training_data(data, budget, seed, told["batch_size"])
        options = {key: value for key, value in trial.items() if key != "learning_rate"}
        task = Task(
            build(name, budget, self.kind, options),
            validation_horizons=budget["horizons"],
            balance=told["balance"],
            learning_rate=trial["learning_rate"],
            warmup_steps=budget["warmup_steps"],
        )
        with tempfile.TemporaryDirectory() as folder:
            best = ModelCheckpoint(folder, monitor="val/loss", save_weights_only=True)
            Trainer(
                max_epochs=budget["epochs"],
                gradient_clip_val=1.0,
                callbacks=[best, SeedEachStep(seed)],
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                accelerator="cpu",  # costs are told for one thread
            ).fit(task, module)
            state = torch.load(Path(best.best_model_path), weights_only=True)["state_dict"]
        task.load_state_dict(state)
        network = task.network.eval().cpu()
        score = float(best.best_model_score)  # type: ignore[arg-type]
        return Measured(network.forecast, data, budget, score, _cost(network, budget["context"]))


class Chosen(Trained):
    """The network that the budget calls `routed` on a set, as it is or as a control."""

    def __init__(self, budget: Mapping[str, Any], kind: Kind) -> None:
        self.budget, self.kind = budget, kind
        self.settings = {
            "kind": kind,
            "routed": budget["routed"],
            "networks": {name: budget["networks"][name] for name in budget["routed"].values()},
        }
        trials = {name: budget["trials"][name] for name in budget["routed"].values()}
        self.trials = [dict(zip(trials, some, strict=True)) for some in zip(*trials.values(), strict=True)]

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

    def training_data(self, data: str, budget: Mapping[str, Any], seed: int, batch_size: int) -> Data:
        """Priors, and the sets that the budget names for this one, each with the same weight."""
        options = {**self.pretraining, "sets": dict.fromkeys(self.pretraining["sets"].get(data, []), 1.0)}
        return module_for(None, budget, seed, batch_size=batch_size, pretraining=Pretraining(**options))


class Linear(Arm):
    """The closed-form ridge on last-value-normalised windows: a map for each horizon.

    A trial gives the powers of the deviation by which windows may count; penalty and power are chosen for
    each horizon on its validation windows.
    """

    seeded = False

    def __init__(self, budget: Mapping[str, Any]) -> None:
        self.budget, self.trials = budget, budget["trials"]["ridge"]

    def fit(self, data: str, trial: Trial, seed: int) -> "Measured":
        """Solve for each horizon."""
        maps: dict[int, Ridge] = {}
        budget = budget_for(data, self.budget)
        for horizon in budget["horizons"]:
            module = module_for(data, budget, seed, horizon)
            parts = module.windows("train"), module.windows("validation")
            maps[horizon] = Ridge.fit(*parts, powers=trial["powers"])
        score = float(np.mean([min(ridge.validation.values()) for ridge in maps.values()]))
        size = sum(ridge.weight.numel() for ridge in maps.values())
        cost = Cost(active_params=size, total_params=size, active_flops=2 * size)
        return Measured(lambda x, mask, horizon: maps[horizon](x, mask), data, budget, score, cost)


class Untrained(Arm):
    """A rule without parameters."""

    seeded = False

    def __init__(self, budget: Mapping[str, Any], rule: Callable[[Data], Rule]) -> None:
        self.budget, self.rule = budget, rule

    def fit(self, data: str, trial: Trial, seed: int) -> "Measured":
        """Nothing to fit."""
        budget = budget_for(data, self.budget)
        cost = Cost(active_params=0, total_params=0, active_flops=0)
        return Measured(self.rule(module_for(data, budget, seed)), data, budget, float("nan"), cost)


class Measured(Fitted):
    """A forecaster after training; the test windows are read by ``test`` alone."""

    def __init__(
        self, forecast: Rule, data: str, budget: Mapping[str, Any], validation: float, cost: Cost
    ) -> None:
        self.forecast, self.data, self.budget = forecast, data, budget
        self.validation, self.cost = validation, cost

    def test(self) -> Outcome:
        """MSE and MAE of each horizon, and their mean over horizons as slice `all`."""
        values: list[Value] = []
        units: dict[tuple[str, str], np.ndarray] = {}
        weights: dict[tuple[str, str], np.ndarray] = {}
        found: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
        for horizon in self.budget["horizons"]:
            windows = module_for(self.data, self.budget, 0, horizon).windows("test")
            for metric, error in self._errors(windows).items():
                place = (str(horizon), metric)
                values.append(Value(*place, float(average(error)), False))
                units[place], weights[place] = blocks(
                    error, windows.start, block_count(windows.start, horizon)
                )
                found[place] = error, windows.start
        for metric in ("mse", "mae"):
            units["all", metric] = self._units_of_all(
                [found[str(h), metric] for h in self.budget["horizons"]]
            )
            values.append(Value("all", metric, float(units["all", metric].mean()), False))
        return Outcome(values, units, self.cost, weights)

    def _units_of_all(self, errors: list[tuple[Tensor, Tensor]]) -> np.ndarray:
        """Blocks of the mean over horizons: as many for each horizon as the longest one allows."""
        count = min(block_count(start, max(self.budget["horizons"])) for _, start in errors)
        parts = [blocks(error, start, count) for error, start in errors]
        shares = np.stack([means * sizes / sizes.sum() * count for means, sizes in parts])
        mean: np.ndarray = shares.mean(axis=0)
        return mean

    @torch.no_grad()
    def _errors(self, windows: Windows) -> dict[str, Tensor]:
        found: dict[str, list[Tensor]] = {"mse": [], "mae": []}
        for batch in windows.batches(512):
            forecast = self.forecast(batch["context"], batch["context_mask"], windows.horizon)
            for name, metric in (("mse", mse), ("mae", mae)):
                found[name].append(metric(forecast, batch["target"], batch["target_mask"]))
        return {name: torch.cat(parts) for name, parts in found.items()}


def budget_for(data: str, budget: Mapping[str, Any]) -> dict[str, Any]:
    """The budget with what it says of one set in particular, below `sets`; of `networks` name by name."""
    own = dict(budget.get("sets", {}).get(data, {}))
    return {**budget, **own, "networks": {**budget["networks"], **own.get("networks", {})}}


def module_for(
    name: str | None, budget: Mapping[str, Any], seed: int, horizon: int | None = None, **options: Any
) -> Data:
    """The data module of one set; the horizon is the longest of the budget unless given."""
    module = Data(
        name=None if name == SIMULATED else name,
        context=budget["context"],
        horizon=horizon or max(budget["horizons"]),
        max_windows_per_epoch=budget["windows_per_epoch"],
        validation_stride=budget["validation_stride"],
        seed=seed,
        **options,
    )
    module.prepare_data()
    module.setup()
    return module


def block_count(start: Tensor, horizon: int) -> int:
    """How many blocks of windows, each at least a horizon long, as near windows share their targets."""
    return max(2, (int(start.max() - start.min()) + 1) // horizon)


def blocks(error: Tensor, start: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and number of windows of each block of neighbouring starts, over all series, NaN left out.

    These are the units of the bootstrap.
    """
    begin, span = int(start.min()), int(start.max() - start.min()) + 1
    block = ((start - begin) * count // span).numpy()
    known = ~error.isnan().numpy()
    sizes = np.bincount(block[known], minlength=count).astype(float)
    sums = np.bincount(block[known], error.double().numpy()[known], minlength=count)
    return sums / np.maximum(sizes, 1), sizes


def _cost(network: nn.Module, context: int) -> Cost:
    active, total = inspection.parameters(network)
    window = torch.zeros(1, context), torch.ones(1, context, dtype=torch.bool)
    flops = inspection.flops(network, *window)
    return Cost(active_params=active, total_params=total, active_flops=float(flops))
