"""The pictures of every report, and the style that all reports share."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from collegium import Routing, inspection
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from apps.common.metrics_file import Curve

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Okabe and Ito's palette: told apart also by colour-blind readers."""


class ExpertMap(NamedTuple):
    """One panel: shares (experts, names) of each expert in what `what` groups; NaN is drawn grey."""

    title: str
    what: str
    names: Sequence[str]
    shares: np.ndarray


def panels(
    count: int, columns: int = 3, width: float = 3.4, height: float = 2.5
) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels in the style of the reports."""
    columns = min(columns, max(count, 1))
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.remove()
    for axes in grid[:count]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_prop_cycle(color=list(COLORS))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure, grid[:count]


MANY = 4
"""Lines of a panel whose names would hide them."""


def curves(groups: Mapping[str, Mapping[str, Curve]], x_label: str = "step") -> Figure:
    """Draw a panel for each group (title -> name -> line)."""
    figure, grid = panels(len(groups))
    for axes, (title, lines) in zip(grid, groups.items(), strict=True):
        for name, (x, y) in lines.items():
            axes.plot(x, y, label=name, linewidth=1.4, marker="o" if len(x) < 15 else None, markersize=3)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel(x_label, fontsize=8)
        if len(lines) > MANY:
            axes.legend(fontsize=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2)
        elif len(lines) > 1:
            axes.legend(fontsize=7, frameon=False)
    return figure


def expert_load(loads: Mapping[str, Sequence[float]]) -> Figure:
    """Draw layer x expert: the number is the expert's share in percent, the colour that share over even load.

    Args:
        loads: layer -> the share of each expert, which sum to 1.
    """
    widest = max(len(shares) for shares in loads.values())
    relative = np.full((len(loads), widest), np.nan)
    for row, shares in enumerate(loads.values()):
        relative[row, : len(shares)] = np.asarray(shares) * len(shares)
    width = min(11.0, 2.2 + 0.45 * widest)
    figure = Figure(figsize=(width, 1.1 + 0.34 * len(loads)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(relative, cmap="RdBu_r", vmin=0, vmax=2, aspect="auto")
    colour_bar(figure, image, [axes], "load / even", aspect=20)
    axes.set_yticks(range(len(loads)), loads, fontsize=8)
    axes.set_xticks(range(widest) if widest <= 32 else range(0, widest, 8))
    axes.tick_params(labelsize=8, length=0)
    axes.set_xlabel("expert", fontsize=8)
    axes.spines[:].set_visible(False)
    if widest <= 24:
        for row, shares in enumerate(loads.values()):
            for expert, share in enumerate(shares):
                dark = abs(share * len(shares) - 1) > 0.6
                color = "white" if dark else "black"
                axes.text(
                    expert, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=color
                )
    return figure


def expert_maps(panels: Sequence[Sequence[ExpertMap]]) -> Figure:
    """Draw who serves what: a line of panels for each layer, all on one scale of colours.

    The scale begins at zero and a share above even load is red, one below it blue, as in `expert_load`.
    """
    wide = max(len(line) for line in panels)
    figure = Figure(figsize=(9, 2.5 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), wide, squeeze=False)
    for line, row in zip(grid, panels, strict=True):
        for axes, panel in zip(line, row, strict=False):
            image = _expert_map(axes, panel)
        for axes in line[len(row) :]:
            axes.remove()
    colour_bar(figure, image, [axes for line in grid for axes in line if axes.figure], "share / even share")
    return figure


def shares_by(routing: Routing, label: Tensor, labels: int) -> np.ndarray:
    """Shares (E, labels) of the experts in the assignments of each label; NaN for a label without any.

    Args:
        routing: of T tokens.
        label: (T,) int64, below `labels`.
        labels: how many there are.
    """
    return shares_of(inspection.expert_by_label(routing, label, labels).cpu().numpy())


def shares_of(table: np.ndarray) -> np.ndarray:
    """Shares (E, labels) of the experts in each column of a table; NaN in a column of zeros."""
    total = table.sum(0)
    return np.where(total > 0, table / np.where(total > 0, total, 1), np.nan)


def colour_bar(
    figure: Figure, image: ScalarMappable, axes: Sequence[Axes], label: str, aspect: float = 40
) -> None:
    """Tell what the colours from 0 to 2 mean."""
    bar = figure.colorbar(image, ax=axes, ticks=[0, 1, 2], aspect=aspect)
    bar.ax.set_yticklabels(["0", "1", "2 or more"])
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _expert_map(axes: Axes, panel: ExpertMap) -> AxesImage:
    experts, columns = panel.shares.shape
    image = axes.imshow(panel.shares * experts, aspect="auto", vmin=0, vmax=2, cmap="RdBu_r")
    axes.set_facecolor("0.85")
    counted = all(name.isdigit() for name in panel.names)
    every = 3 if (columns > 12 and counted) or columns > 32 else 1
    shown = [_shortened(name) for name in panel.names[::every]]
    axes.set_xticks(range(0, columns, every))
    long = max(map(len, shown), default=0) > 3
    axes.set_xticklabels(shown, fontsize=7, rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(range(0, experts, -(-experts // 16)))
    axes.tick_params(labelsize=7)
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel(panel.what, fontsize=8)
    axes.set_ylabel("expert", fontsize=8)
    return image


def _shortened(name: str, length: int = 14) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
