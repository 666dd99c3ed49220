"""What the experts of a forecaster do: whom they serve, and what they add to a forecast."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from collegium import Routing, inspection
from collegium.layer import moe_layers
from lightning.fabric.utilities import move_data_to_device
from matplotlib.axes import Axes
from torch import Tensor

from apps.common.experts import tells
from apps.common.plots import COLORS, ExpertMap, expert_maps, panels, shares_by
from apps.common.report import Section
from apps.timeseries.baselines import fill_forward
from apps.timeseries.contributions import contributions
from apps.timeseries.data import Data
from apps.timeseries.task import Task
from apps.timeseries.window_kinds import REGIMES, band, bands, regime, usual_deviation
from apps.timeseries.windows import Windows

SERVES = """
Share of each expert in the tokens of a kind, over an even share: red is more, blue is less, grey is a kind
without a window. The hour of a token is that of its last point, the same for all tokens of a window where a
token is a day. The kind of a window holds for all its
tokens: the band of periods, in rows, that has the most of its variance about a straight line; and its regime.
It is wild where it deviates more than the median window of its series, and rising or falling where its last
fifth lies more than half a deviation from its mean.

The table gives mutual information over the entropy of the label: 1 where the expert tells it, 0 where it says
nothing; its 95% interval over windows; and what it would be by chance, with the labels of another window. An
interval above chance is specialisation; a picture of few windows can look as strong without.
"""
ADDS = """
Above, a forecast of a window of each of up to four series, and what it is with the weights of all experts of
the last routed layer at zero. Below, what each of the four experts that matter most adds: the forecast less
what it is with that expert's weight at zero, in the units of the data; experts that add less than 2% of what
the strongest one does are left out. In grey what all add together, their sum where what follows the layer is
linear.
"""
DRAWN = 4
"""Experts that a picture of contributions tells apart; only those that add most are drawn."""
STYLES: tuple[dict[str, Any], ...] = (
    {"color": "0.6", "lw": 1.0},
    {"color": COLORS[0], "lw": 1.4},
    {"color": COLORS[1], "lw": 1.2, "ls": "--"},
)
"""Of truth, forecast, and forecast without experts."""


def expert_sections(
    task: Task, routings: Mapping[str, list[Routing]], rows: Tensor, windows: Windows, data: Data
) -> list[Section]:
    """Who serves what, and what each expert adds; nothing for a network without experts.

    routings: of the sampled windows ``rows``, a single call a layer.
    """
    if not routings:
        return []
    patch = getattr(task.network, "patch", windows.context)  # without tokens a window is one
    return [
        _serves(routings, patch, rows, windows, data),
        _adds(task, list(routings)[-1], rows, windows, data),
    ]


def one_a_series(rows: Tensor, windows: Windows, most: int) -> list[int]:
    """Where in rows the middle window of each of up to so many series stands."""
    channels = windows.channel[rows]
    known = sorted(set(channels.tolist()))
    spread = np.linspace(0, len(known) - 1, min(most, len(known))).round().astype(int)
    own = [(channels == known[i]).nonzero().flatten() for i in spread]
    return [int(places[len(places) // 2]) for places in own]


def token_labels(
    rows: Tensor, windows: Windows, tokens: int, patch: int, data: Data
) -> dict[str, tuple[Tensor, list[str]]]:
    """Labels (B * N,) of the last N tokens of some windows, by name, with the names of their values.

    A token is ``patch`` points, and the last one ends with the context. The hour is left out where there is
    no clock.
    """
    batch = windows.__getitems__(rows)
    filled = fill_forward(batch["context"], batch["context_mask"])
    channel = batch["channel"]
    of_window = {
        "series": (channel, list(data.names)),
        "strongest period": (band(filled), bands(windows.context)),
        "regime": (regime(filled, usual_deviation(filled, channel)), list(REGIMES)),
    }
    labels = {name: (label.repeat_interleave(tokens), names) for name, (label, names) in of_window.items()}
    end = windows.context - 1 - patch * torch.arange(tokens - 1, -1, -1)
    first = windows.line.first[channel] + batch["start"]
    hour = windows.line.hour[first[:, None] + end].long().reshape(-1)
    if int(hour.min()) >= 0:
        labels["hour of day"] = hour, [str(h) for h in range(24)]
    return labels


def _serves(
    routings: Mapping[str, list[Routing]], patch: int, rows: Tensor, windows: Windows, data: Data
) -> Section:
    lines: list[list[ExpertMap]] = []
    table = []
    for layer, (routing, *_) in routings.items():
        tokens = routing.num_tokens // len(rows)
        window = torch.arange(len(rows)).repeat_interleave(tokens)
        maps = []
        for what, (label, names) in token_labels(rows, windows, tokens, patch, data).items():
            title = f"{layer}: expert by {what}"
            maps.append(ExpertMap(title, what, names, shares_by(routing, label, len(names))))
            found = inspection.specialisation(routing, label, window)
            table.append({"layer": layer, "label": what, **tells("label", found)})
        lines += [maps[:2], maps[2:]]
    return Section("Who serves what", SERVES, [expert_maps(lines)], table)


def _adds(task: Task, name: str, rows: Tensor, windows: Windows, data: Data) -> Section:
    chosen = one_a_series(rows, windows, 4)
    batch = windows.__getitems__(rows[chosen])
    layer = moe_layers(task.network)[name]
    groups, at = windows.groups_of(rows[chosen])
    own = move_data_to_device(groups, task.device)
    with torch.no_grad():
        whole = task.network.forecast_batch(own, windows.horizon).cpu()[at]
    added = contributions(task.network, layer, own, windows.horizon).cpu()[:, at]
    target = batch["target"].masked_fill(~batch["target_mask"], torch.nan)
    zero = data.restore(torch.zeros_like(whole), batch["channel"])
    lines = {"truth": target, "forecast": whole, "without experts": whole - added[-1]}
    restored = {title: data.restore(line, batch["channel"]) for title, line in lines.items()}
    units = torch.stack([data.restore(part, batch["channel"]) - zero for part in added])
    figure, grid = panels(2 * len(chosen), columns=len(chosen))
    for i, axes in enumerate(grid[: len(chosen)]):
        for (title, line), style in zip(restored.items(), STYLES, strict=True):
            axes.plot(np.arange(1, line.shape[1] + 1), line[i], label=title, **style)
        axes.set_title(data.names[batch["channel"][i]], fontsize=9, loc="left")
        _draw_parts(grid[len(chosen) + i], units[:, i])
    grid[0].legend(fontsize=7, frameon=False)
    grid[len(chosen)].set_ylabel("added", fontsize=8)
    return Section("What each expert adds", ADDS, [figure])


def _draw_parts(axes: Axes, parts: Tensor) -> None:
    """Lines of the parts (E + 1, H): of the experts that matter most, and of all together, the last."""
    steps = np.arange(1, parts.shape[1] + 1)
    axes.plot(steps, parts[-1], color="0.8", lw=4, label="together")
    strength = parts[:-1].abs().amax(1)
    least = 0.02 * strength.max()
    drawn = [
        expert for expert in strength.argsort(descending=True)[:DRAWN].tolist() if strength[expert] > least
    ]
    for expert in sorted(drawn):
        color = COLORS[expert % len(COLORS)]
        axes.plot(steps, parts[expert], color=color, lw=1.2, label=f"expert {expert}")
    if strength.max() == 0:
        axes.set_title("no expert counts here", fontsize=8, loc="left")
    axes.set_xlabel("step of the horizon", fontsize=8)
    axes.legend(fontsize=7, frameon=False)
