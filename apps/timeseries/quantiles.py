"""Quantiles of forecasts: asked of a network, and measured.

Shapes: B windows, W all windows, H horizon, Q levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.fabric.utilities import move_data_to_device
from rich.progress import track
from torch import Tensor

from apps.common.errors import UserError
from apps.timeseries.metrics import coverage, crps, msis
from apps.timeseries.model import Forecaster, Probabilistic
from apps.timeseries.networks.heads import Head
from apps.timeseries.windows import Batch, Windows

MIDDLES = (torch.arange(20) + 0.5) / 20
"""The middles of twenty equal parts, over which the CRPS is a mean; 0.025 and 0.975 bound the central 95%."""

MEASURED = torch.cat([MIDDLES, torch.tensor([0.05, 0.25, 0.75, 0.95])]).sort().values
"""These, and the bounds of the other intervals that are measured."""

ROUNDING = 1e-6
"""By which a level in single precision may differ from what was asked for."""

WRITTEN = (0.1, 0.5, 0.9)
"""The levels of a prediction where none are given."""


def quantiles(network: Probabilistic, batch: Batch, horizon: int, levels: Sequence[float] | Tensor) -> Tensor:
    """Return quantiles (B, H, Q) of what follows each window, on the scale of the batch."""
    known = next(iter(network.parameters()), torch.empty(0))
    here = move_data_to_device(batch, known.device)
    at = torch.as_tensor(levels, dtype=here["context"].dtype, device=known.device)
    with torch.no_grad():
        return network.eval().quantiles_batch(here, horizon, at).cpu()


def all_quantiles(
    network: Probabilistic, windows: Windows, horizon: int, levels: Sequence[float], size: int = 512
) -> Tensor:
    """Return quantiles (W, H, Q) of all windows, a batch at a time, with a progress bar."""
    batches = track(windows.batches(size), "Quantiles", total=-(-len(windows) // size), transient=True)
    return torch.cat([quantiles(network, batch, horizon, levels) for batch in batches])


def spread(
    found: Tensor, batch: Batch, scale: Tensor, steps: slice, known: tuple[float, float] = (0.0, 1.0)
) -> dict[str, Tensor]:
    """Measure quantiles (B, H, Q), at the levels MEASURED, over some steps of the horizon.

    scale: (C,) the seasonal naive error of each series. known: the levels between which the network knows
    quantiles. Returns for each window (B,) the CRPS, the MSIS of the central 95%, and the share of targets in
    the central 50% and 90%, intervals beyond what is known left out; missing targets are left out.
    """
    found, target, mask = found[:, steps], batch["target"][:, steps], batch["target_mask"][:, steps]

    def at(levels: Tensor) -> Tensor:
        return found[..., torch.isclose(MEASURED[:, None], levels).any(1)]

    def between(level: float) -> tuple[Tensor, Tensor]:
        low, high = at(torch.tensor([(1 - level) / 2, (1 + level) / 2])).unbind(-1)
        return low, high

    def told(level: float) -> bool:
        return known[0] <= (1 - level) / 2 + ROUNDING and (1 + level) / 2 - ROUNDING <= known[1]

    measured = {"crps": crps(at(MIDDLES), target, MIDDLES, mask)}
    if told(0.95):
        measured["msis_95"] = msis(*between(0.95), target, 0.95, scale[batch["channel"]], mask)
    inside = {
        f"in_{level:.0%}"[:-1]: coverage(*between(level), target, mask) for level in (0.5, 0.9) if told(level)
    }
    return measured | inside


def known_levels(network: Probabilistic) -> tuple[float, float]:
    """The least and the greatest level of which the network knows a quantile."""
    places = [head.places for head in network.modules() if isinstance(head, Head)]
    return (float(places[0][0]), float(places[0][-1])) if places else (0.0, 1.0)


def levels_for(network: Forecaster, asked: Sequence[float] | None) -> list[float]:
    """Return the levels to predict, ascending: those asked for or else WRITTEN; none for point forecasters.

    Raises:
        UserError: levels of a network that knows none, or not between 0 and 1, or given twice, or beyond
            those that the network knows.
    """
    if not isinstance(network, Probabilistic):
        if asked is None:
            return []
        raise UserError(
            f"levels: {type(network).__name__} forecasts points and knows no quantiles: leave levels out, or "
            "name a run of a probabilistic network."
        )
    levels = sorted(WRITTEN if asked is None else asked)
    if not levels or not all(0 < level < 1 for level in levels) or len(set(levels)) < len(levels):
        given = " ".join(f"{level:g}" for level in levels) or "empty"
        raise UserError(
            f"levels: {given}: give numbers between 0 and 1, each once, such as "
            f"{' '.join(map(str, WRITTEN))}."
        )
    low, high = known_levels(network)
    if not all(low <= level + ROUNDING and level - ROUNDING <= high for level in levels):
        raise UserError(
            f"levels: {' '.join(f'{level:g}' for level in levels)}: this network knows those from {low:.4g} "
            f"to {high:.4g}: leave the others out."
        )
    return levels
