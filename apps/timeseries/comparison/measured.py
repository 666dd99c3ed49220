"""A forecaster after training, and its errors on the windows of a set."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apps.common.compare import Cost, Fitted, Outcome, Value
from apps.timeseries.data import Data
from apps.timeseries.metrics import average, mae, mse
from apps.timeseries.windows import Windows

SIMULATED = "simulated"
"""The name under which the embedded series are compared."""

Rule = Callable[[Tensor, Tensor, int], Tensor]
"""context (B, L), context_mask (B, L), horizon -> (B, H)."""


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
