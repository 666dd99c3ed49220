"""The pictures of a ranker's report."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from apps.common.plots import COLORS, panels
from apps.common.report import Section
from apps.recsys.bodies import Mixture
from apps.recsys.health import health, looked_at, mixture_of, observed, own_shares, weights
from apps.recsys.impressions import Batch, Impressions
from apps.recsys.metrics import auc
from apps.recsys.model import Ranker
from apps.recsys.scored import SEGMENTS, Scored, scored

BINS = 10
FEWEST = 5
"""Positives that a part must have for its AUC to be drawn."""


def sections(network: Ranker, rows: Impressions) -> list[Section]:
    """What ranking by each task brings, how chances hold, who is served well, and whom gates ask."""
    found = scored(network, rows)
    parts = [_lifts(found), _calibration(found), _tail(found)]
    if (body := mixture_of(network)) is not None:
        some = looked_at(rows)
        parts.append(_gates(body, network, some.batch))
        if (some.user >= 0).any():
            parts.append(_segments(body, network, some))
        parts.append(_health(network, some.batch))
    return parts


def _lifts(found: Scored) -> Section:
    figure, grid = panels(len(found.tasks))
    for place, (axes, name) in enumerate(zip(grid, found.tasks, strict=True)):
        chance, label, _ = found.of_task(place)
        ordered = label[np.argsort(-chance, kind="stable")]
        reached = np.cumsum(ordered) / max(ordered.sum(), 1)
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        axes.plot(share, reached, linewidth=1.4)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
        top = max(len(ordered) // 10, 1)
        lift = reached[top - 1] / share[top - 1]
        _name(
            axes,
            f"{name}: lift {lift:.1f} in the top tenth",
            "share of rows, best first",
            "share of positives",
        )
    text = "Share of a task's positives among the rows that it ranks first; dashed: at random."
    return Section("Lift by task", text, [figure])


def _calibration(found: Scored) -> Section:
    figure, grid = panels(len(found.tasks))
    for place, (axes, name) in enumerate(zip(grid, found.tasks, strict=True)):
        chance, label, _ = found.of_task(place)
        parts = np.array_split(np.argsort(chance, kind="stable"), BINS)
        said = np.array([chance[part].mean() for part in parts if len(part)])
        true = np.array([label[part].mean() for part in parts if len(part)])
        most = max(said.max(), true.max()) * 1.05
        axes.plot([0, most], [0, most], color="0.6", linewidth=0.8, linestyle="--")
        axes.plot(said, true, marker="o", markersize=3, linewidth=1.2)
        _name(axes, name, "chance", "share of positives")
    return Section(
        "Calibration", "Tenths of the rows by their chance; on the dashed line chances hold.", [figure]
    )


def _tail(found: Scored) -> Section:
    """AUC by how often user and item came in training."""
    figure, grid = panels(2, columns=2)
    for axes, count, what in ((grid[0], found.activity, "user"), (grid[1], found.fame, "item")):
        edges = np.unique(np.quantile(count, np.linspace(0, 1, 7)))
        bins = (
            np.searchsorted(edges[1:-1], count, side="left")
            if len(edges) > 2
            else np.zeros(len(count), dtype=int)
        )
        for place, name in enumerate(found.tasks):
            points = [
                (count[bins == b].mean(), auc(found.chance[own, place], found.label[own, place]))
                for b in np.unique(bins)
                if (own := (bins == b) & ~np.isnan(found.label[:, place])).any()
                and FEWEST <= found.label[own, place].sum() < own.sum()
            ]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(
                    1 + np.array(x),
                    y,
                    marker="o",
                    markersize=3,
                    label=name,
                    color=COLORS[place % len(COLORS)],
                )
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        _name(axes, f"by {what}", f"1 + training rows of the {what}", "AUC")
    lines, names = grid[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=6, fontsize=7, frameon=False)
    text = (
        "AUC of each task by how often the user, and the item, of a row came in training; the tail is left."
    )
    return Section("Long tail", text, [figure])


def _gates(body: Mixture, network: Ranker, batch: Batch) -> Section:
    seen = observed(network, batch)
    figure = Figure(
        figsize=(9, 0.9 + 0.35 * sum(len(level.gates) for level in body.levels)), layout="constrained"
    )
    ratios = [len(level.gates) for level in body.levels]
    grid = figure.subplots(len(body.levels), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    for axes, level, (routing, _) in zip(grid, body.levels, seen, strict=True):
        table = np.where(level.visible, weights(routing).mean(0).numpy(), np.nan)
        _map(axes, table, level.gates, level.experts)
    text = (
        "What each gate (row) gives each expert (column), a mean; grey is out of sight. With self-gates the"
        " weights of a row add up to 2."
    )
    return Section("Gates by task", text, [figure])


def _segments(body: Mixture, network: Ranker, rows: Impressions) -> Section:
    """Weights at the top by thirds of users."""
    routing, _ = observed(network, rows.batch)[-1]
    weight, level = weights(routing).numpy(), body.levels[-1]
    order = np.array_split(np.argsort(rows.activity, kind="stable"), 3)
    figure, grid = panels(len(level.gates), width=3.4, height=2.2)
    for gate, (axes, name) in enumerate(zip(grid, level.gates, strict=True)):
        own = np.flatnonzero(level.visible[gate])
        for i, (part, label) in enumerate(zip(order, SEGMENTS, strict=True)):
            place = np.arange(len(own)) + 0.27 * (i - 1)
            axes.bar(place, weight[part][:, gate, own].mean(0), 0.25, label=label, color=COLORS[i])
        axes.set_xticks(range(len(own)), [level.experts[e] for e in own], rotation=45, ha="right", fontsize=6)
        _name(axes, name, "", "weight")
    grid[0].legend(title="training rows of the user", title_fontsize=6, fontsize=6, frameon=False)
    return Section(
        "Gates by user", "Weights of the experts for thirds of the users, by their training rows.", [figure]
    )


def _health(network: Ranker, batch: Batch) -> Section:
    found, shares = health(network, batch), own_shares(network, batch)
    figure, grid = panels(4 if shares else 3)
    names = [f"{row['level']}: {row['expert']}" for row in found]
    for axes, key, title in zip(
        grid[:3],
        ("dead", "size", "serves"),
        ("collapse: share of dead outputs", "size of the outputs", "degradation: share of gates served"),
        strict=True,
    ):
        colors = [COLORS[0] if row["own"] else COLORS[1] for row in found]
        axes.barh(range(len(found)), [row[key] for row in found], color=colors)
        axes.set_yticks(range(len(found)), names if axes is grid[0] else [], fontsize=6)
        axes.invert_yaxis()
        if key != "size":
            axes.set_xlim(0, 1.02)
        _name(axes, title, "", "")
    text = "Experts of one task blue, others orange. Common experts that serve few gates have degraded."
    if shares:
        grid[3].barh(range(len(shares)), list(shares.values()), color=COLORS[0])
        grid[3].axvline(1, color="0.6", linewidth=0.8, linestyle="--")
        grid[3].set_yticks(range(len(shares)), list(shares), fontsize=6)
        grid[3].invert_yaxis()
        _name(grid[3], "underfitting: own experts, over an even share", "", "")
        text += " A task whose own experts are heard less than an even share (dashed) leaves them aside."
    return Section("Health of the experts", text, [figure])


def _map(axes: Axes, table: np.ndarray, rows: list[str], columns: list[str]) -> None:
    axes.imshow(table, aspect="auto", vmin=0, vmax=1, cmap="Blues")
    axes.set_facecolor("0.85")
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", fontsize=7)
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            axes.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=6,
                color="white" if value > 0.6 else "black",
            )


def _name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=8, loc="left")
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
