"""A forecaster after training, and its errors on the windows of a set."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apps.common.compare import Cost, Fitted, Outcome, Value
from apps.timeseries.blocks import block_count, blocks
from apps.timeseries.data import Data
from apps.timeseries.metrics import average
from apps.timeseries.task import METRICS
from apps.timeseries.windows import Windows

SIMULATED = "simulated"
"""The name under which the embedded series are compared."""

Rule = Callable[[Tensor, Tensor, int], Tensor]
"""context (B, L), context_mask (B, L), horizon -> (B, H)."""


class Measured(Fitted):
    """A forecaster after training; the test windows are read by ``test`` alone.

    Where it is `nested`, a shorter forecast is the beginning of the longest, and one serves all horizons.
    """

    def __init__(
        self,
        forecast: Rule,
        data: str,
        budget: Mapping[str, Any],
        validation: float,
        cost: Cost,
        nested: bool = False,
    ) -> None:
        self.forecast, self.data, self.budget, self.nested = forecast, data, budget, nested
        self.validation, self.cost = validation, cost

    def test(self) -> Outcome:
        """MSE and MAE of each horizon, and their mean over horizons as slice `all`."""
        values: list[Value] = []
        units: dict[tuple[str, str], np.ndarray] = {}
        weights: dict[tuple[str, str], np.ndarray] = {}
        longest = module_for(self.data, self.budget, 0).windows("test")
        windows = {horizon: longest.of_horizon(horizon) for horizon in self.budget["horizons"]}
        errors = self._errors(windows, longest.of_horizon(0))
        for horizon, of_horizon in windows.items():
            for metric in METRICS:
                place, error, start = (str(horizon), metric), errors[horizon, metric], of_horizon.start
                values.append(Value(*place, float(average(error)), False))
                units[place], weights[place] = blocks(error, start, block_count(start, horizon))
        for metric in METRICS:
            found = [(errors[horizon, metric], of_horizon.start) for horizon, of_horizon in windows.items()]
            units["all", metric] = self._units_of_all(found)
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
    def _errors(self, windows: Mapping[int, Windows], contexts: Windows) -> dict[tuple[int, str], Tensor]:
        """The errors of the windows of each horizon, by (horizon, metric); `contexts` are those of all."""
        found: dict[tuple[int, str], list[Tensor]] = {(h, metric): [] for h in windows for metric in METRICS}
        for batch in contexts.batches(512):
            x, observed = batch["context"], batch["context_mask"]
            here = contexts.place(batch["channel"], batch["start"])
            steps = self.forecast(x, observed, max(windows)) if self.nested else None
            for horizon, of_horizon in windows.items():
                there = contexts.place(of_horizon.channel, of_horizon.start)
                kept = torch.isin(here, there)
                if not kept.any():
                    continue
                part = of_horizon.__getitems__(torch.isin(there, here).nonzero().flatten())
                own = (
                    self.forecast(x[kept], observed[kept], horizon)
                    if steps is None
                    else steps[kept, :horizon]
                )
                for name, metric in METRICS.items():
                    found[horizon, name].append(metric(own, part["target"], part["target_mask"]))
        return {place: torch.cat(parts) for place, parts in found.items()}


def budget_for(data: str | None, budget: Mapping[str, Any]) -> dict[str, Any]:
    """The budget with what it says of one set in particular, below `sets`; of `networks` name by name.

    A network that is `like` another one has what is said of that, but for its own.
    """
    own = dict(budget.get("sets", {}).get(data, {}))
    told = {**budget["networks"], **own.get("networks", {})}
    networks = {name: {**told.get(of.get("like"), {}), **of} for name, of in told.items()}
    return {**budget, **own, "networks": networks}


def module_for(name: str | None, budget: Mapping[str, Any], seed: int, **options: Any) -> Data:
    """The data module of one set, with the horizons of the budget."""
    module = Data(
        name=None if name == SIMULATED else name,
        context=budget["context"],
        horizon=max(budget["horizons"]),
        horizons=budget["horizons"],
        max_windows_per_epoch=budget["windows_per_epoch"],
        validation_stride=budget["validation_stride"],
        earlier=budget.get("earlier", 0),
        seed=seed,
        **options,
    )
    module.prepare_data()
    module.setup()
    return module
