"""A forecaster after training, and its errors on the windows of a set."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from apps.common.compare import Cost, Fitted, Outcome, Value
from apps.timeseries.blocks import block_count, blocks
from apps.timeseries.comparison.budgets import module_for
from apps.timeseries.metrics import average
from apps.timeseries.model import Forecaster, Probabilistic, WholeWindow
from apps.timeseries.quantiles import MEASURED, known_levels, quantiles, spread
from apps.timeseries.task import METRICS
from apps.timeseries.windows import Batch, Windows

Rule = Callable[[Batch, int], Tensor]
"""(windows, horizon) -> (B, H)."""
INSIDE = 0.9
"""Share of the targets that the measured interval of a distribution is to hold."""


class Measured(Fitted):
    """A forecaster after training; the test windows are read by ``test`` alone.

    Args:
        forecaster: a network, or a rule.
        data: the set.
        budget: of the set.
        validation: the score.
        cost: of the arm.
        joint: the windows of a table see one another.

    Attributes:
        nested: a shorter forecast is the beginning of the longest, and one serves all horizons.
    """

    def __init__(
        self,
        forecaster: Forecaster | Rule,
        data: str,
        budget: Mapping[str, Any],
        validation: float,
        cost: Cost,
        joint: bool = False,
    ) -> None:
        self.forecast: Rule = forecaster.forecast_batch if isinstance(forecaster, Forecaster) else forecaster
        self.distribution = forecaster if isinstance(forecaster, Probabilistic) else None
        self.nested = isinstance(forecaster, WholeWindow)
        self.data, self.budget, self.joint = data, budget, joint
        self.validation, self.cost = validation, cost

    def test(self) -> Outcome:
        """MSE and MAE of each horizon, and their mean over horizons as slice `all`.

        Of a distribution also the CRPS, and how far the share of targets in its central 90% lies off that.
        """
        values: list[Value] = []
        units: dict[tuple[str, str], np.ndarray] = {}
        weights: dict[tuple[str, str], np.ndarray] = {}
        longest = module_for(self.data, self.budget, 0, joint=self.joint).windows("test")
        windows = {horizon: longest.of_horizon(horizon) for horizon in self.budget["horizons"]}
        errors = self._errors(windows, longest.of_horizon(0))
        for horizon, of_horizon in windows.items():
            for metric in METRICS:
                place, error, start = (str(horizon), metric), errors[horizon, metric], of_horizon.start
                values.append(Value(*place, float(average(error)), False))
                units[place], weights[place] = blocks(error, start, block_count(start, horizon))
        for metric in (*METRICS, *(["crps"] if self.distribution else [])):
            found = [(errors[horizon, metric], of_horizon.start) for horizon, of_horizon in windows.items()]
            units["all", metric] = self._units_of_all(found)
            values.append(Value("all", metric, float(units["all", metric].mean()), False))
        if self.distribution:
            inside = [float(average(errors[horizon, "in_90"])) for horizon in windows]
            values.append(Value("all", "off_90", abs(float(np.mean(inside)) - INSIDE), False))
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
        found: dict[tuple[int, str], list[Tensor]] = {}
        longest = max(windows)
        for batch in contexts.batches(512):
            here = contexts.place(batch["channel"], batch["start"])
            steps = self.forecast(batch, longest) if self.nested else None
            told = self._quantiles(batch, longest)
            for horizon, of_horizon in windows.items():
                there = contexts.place(of_horizon.channel, of_horizon.start)
                kept = torch.isin(here, there)
                if not kept.any():
                    continue
                part = of_horizon.__getitems__(torch.isin(there, here).nonzero().flatten())
                own = self.forecast(_rows(batch, kept), horizon) if steps is None else steps[kept, :horizon]
                for name, metric in METRICS.items():
                    found.setdefault((horizon, name), []).append(
                        metric(own, part["target"], part["target_mask"])
                    )
                if told is not None:
                    for name, error in self._spread(told[kept, :horizon], part).items():
                        found.setdefault((horizon, name), []).append(error)
        return {place: torch.cat(parts) for place, parts in found.items()}

    def _quantiles(self, batch: Batch, horizon: int) -> Tensor | None:
        """Quantiles (B, H, Q), at the levels that are measured, of the longest horizon."""
        return quantiles(self.distribution, batch, horizon, MEASURED) if self.distribution else None

    def _spread(self, told: Tensor, batch: Batch) -> dict[str, Tensor]:
        """CRPS and whether the central 90% hold the targets, of each window (B,)."""
        assert self.distribution is not None
        of_one = torch.ones(int(batch["channel"].max()) + 1)
        found = spread(told, batch, of_one, slice(None), known_levels(self.distribution))
        return {name: found[name] for name in ("crps", "in_90")}


def _rows(batch: Batch, kept: Tensor) -> Batch:
    """Some windows of a batch."""
    return cast(Batch, {name: cast(Tensor, value)[kept] for name, value in batch.items()})
