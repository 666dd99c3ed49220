"""What a fair run shows: how unlike groups were treated over time, and which features carry it."""

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from apps.common.plots import COLORS, panels
from apps.common.report import Section
from apps.drift.data import Data
from apps.drift.fair.fairness import gaps
from apps.drift.fair.shapley import by_column, by_group, over_windows
from apps.drift.metrics import right
from apps.drift.task import Task

POINTS = 200
"""At most so many points to a line."""
DRAWN = len(COLORS)
"""Features that a picture tells apart: those that matter most."""
TITLES = {"parity": "demographic parity", "odds": "equalised odds", "burden": "burden"}
GAPS = """
The largest difference between two groups, over the last {window} rows: of the share that gets the wanted
outcome (demographic parity), of the same among those of one label, the worse label (equalised odds), and of
the distance from the boundary of those who do not get it, in deviations of the features (burden; only where
experts are linear). 0 is fair. Dotted lines are drifts, where they are known; dashed ones in colour are
experts that joined, because of errors or of unfairness.

The table tells the gaps of all rows and of those between drifts, and the share of each group that got the
wanted outcome.
"""
ADDS = """
What each column adds to the logit of the wanted outcome: Shapley values of each expert weighted by the gate,
as both were when the row was predicted. On the left the mean size over {window} rows; on the right the mean
in each group: columns whose bars differ between groups are those that carry the gap.
"""


def fair_sections(task: Task, data: Data) -> list[Section]:
    """Gaps over time, and attributions where the model notes them; nothing without groups or two labels."""
    table = task.history.table()
    if not data.has_gaps or not table:
        return []
    window = max(50, min(1000, len(table["label"]) // 20))
    drifts = [row for row in data.drifts if 0 < row < len(table["label"])]
    parts = [_gaps(table, task.network.changes(), drifts, window, data.groups)]
    if "attribution" in table:
        parts.append(_attributions(table, drifts, window, data))
    return parts


def _gaps(
    table: dict[str, np.ndarray],
    changes: Sequence[tuple[int, str]],
    drifts: Sequence[int],
    window: int,
    groups: Sequence[str],
) -> Section:
    rows = np.linspace(window, len(table["label"]), POINTS).astype(int)
    lines = [gaps(_cut(table, row - window, row)) for row in rows]
    figure, grid = panels(len(lines[0]), columns=1, width=9, height=1.9)
    for axes, name in zip(grid, lines[0], strict=True):
        axes.plot(rows, [line[name] for line in lines], linewidth=1.4, color="black")
        axes.set_title(TITLES[name], fontsize=9, loc="left")
        axes.set_ylim(bottom=0)
        _marks(axes, drifts, changes)
    names, handles = _once(grid[0])
    if names:
        figure.legend(handles, names, loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    grid[-1].set_xlabel("row of the stream", fontsize=8)
    ends = [0, *drifts, len(table["label"])]
    spans = [(0, len(table["label"])), *(pairwise(ends) if drifts else [])]
    rows_of_table = [_row(_cut(table, *span), *span, groups) for span in spans]
    return Section("Fairness over time", GAPS.format(window=window), [figure], rows_of_table)


def _row(table: dict[str, np.ndarray], begin: int, end: int, groups: Sequence[str]) -> dict[str, object]:
    predicted = table["predicted"]
    measured = {"accuracy": float(right(table["label"], predicted).mean()), **gaps(table)}
    for number, name in enumerate(groups):
        own = predicted[table["group"] == number]
        measured[f"wanted, {name}"] = float((own == 1).mean()) if len(own) else float("nan")
    told = {name: round(value, 4) if isfinite(value) else None for name, value in measured.items()}
    return {"rows": f"{begin:,} to {end:,}", **told}


def _attributions(table: dict[str, np.ndarray], drifts: Sequence[int], window: int, data: Data) -> Section:
    columns = data.schema.columns
    sizes = [len(column.features) for column in columns]
    values = by_column(table["attribution"].astype(float), sizes)
    names = [column.name for column in columns]
    most = np.abs(values).mean(0).argsort()[::-1][:DRAWN]
    figure, (over_time, bars) = panels(2, columns=2, width=4.6, height=3.2)
    rows, sizes_over_time = over_windows(values, window)
    for place, column in enumerate(most):
        over_time.plot(rows, sizes_over_time[:, column], label=names[column], color=COLORS[place])
    _marks(over_time, drifts, [])
    over_time.set_xlabel("row of the stream", fontsize=8)
    over_time.set_title("mean size over time", fontsize=9, loc="left")
    over_time.legend(fontsize=7, frameon=False, ncols=2)
    means = by_group(values, table["group"], len(data.groups))
    height = 0.8 / len(data.groups)
    for number, name in enumerate(data.groups):
        places = np.arange(len(most)) + (number - (len(data.groups) - 1) / 2) * height
        colour = COLORS[number % len(COLORS)]
        bars.barh(places, means[number, most], height, label=f"{data.sensitive} {name}", color=colour)
    bars.set_yticks(range(len(most)), [names[column] for column in most], fontsize=8)
    bars.invert_yaxis()
    bars.set_title("mean of each group", fontsize=9, loc="left")
    bars.legend(fontsize=7, frameon=False)
    return Section("What features add", ADDS.format(window=window), [figure])


def _cut(table: dict[str, np.ndarray], begin: int, end: int) -> dict[str, np.ndarray]:
    return {name: column[begin:end] for name, column in table.items()}


def _marks(axes: Axes, drifts: Sequence[int], changes: Sequence[tuple[int, str]]) -> None:
    for row in drifts:
        axes.axvline(row, color="black", linestyle=":", linewidth=1)
    for row, why in changes:
        colour = COLORS[0] if why == "errors" else COLORS[1]
        axes.axvline(row, color=colour, linestyle="--", linewidth=1.2, label=f"an expert joined: {why}")


def _once(axes: Axes) -> tuple[list[str], list[Artist]]:
    """Names and handles of the legend, each name once."""
    handles, names = axes.get_legend_handles_labels()
    known = dict(zip(names, handles, strict=True))
    return list(known), list(known.values())
