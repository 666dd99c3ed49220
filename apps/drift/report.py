"""The pictures of a stream: accuracy and trust over time."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from apps.common.plots import COLORS, panels
from apps.common.report import Section
from apps.drift.data import Data
from apps.drift.fair.report import fair_sections
from apps.drift.metrics import FLOORS, right, windowed
from apps.drift.task import Task

POINTS = 400
"""At most so many points to a line."""


ROWS = "all rows"
"""What the pictures are of, whatever the split: a stream is told from its beginning."""


def sections(task: Task, data: Data, split: Literal["validation", "test"] = "validation") -> list[Section]:
    """Accuracy over time beside the floors, whom the router trusts, and what each expert says.

    Where there is a sensitive column, fairness over time and what features add as well.
    """
    table = task.history.table()
    if not table:
        return []
    window = max(50, min(1000, len(table["label"]) // 20))
    names, drifts = task.network.expert_names, [row for row in data.drifts if row < len(table["label"])]
    return [
        _accuracy(table, drifts, window),
        _trust(table, names, drifts, window),
        _experts(table, dict(zip(names, task.network.since(), strict=True)), drifts, window),
        *fair_sections(task, data),
    ]


def _accuracy(table: dict[str, np.ndarray], drifts: Sequence[int], window: int) -> Section:
    figure, (axes,) = panels(1, width=9, height=2.8)
    label = table["label"]
    for name, predicted in {"mixture": table["predicted"], **_floors(label)}.items():
        rows, means = windowed(right(label, predicted), window)
        strong = name == "mixture"
        _line(
            axes,
            rows,
            means,
            label=name,
            linewidth=1.8 if strong else 1.0,
            color=None if strong else "0.6",
            linestyle="--" if name == "no change" else "-",
        )
    _marks(axes, drifts)
    axes.set_ylabel(f"accuracy, last {window} rows", fontsize=8)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    text = (
        "Every row is predicted before its label is learned. Dotted upright lines are drifts, where they are "
        "known. Majority says the most frequent label so far, no change the last one."
    )
    return Section("Accuracy over time", text, [figure])


def _trust(table: dict[str, np.ndarray], names: Sequence[str], drifts: Sequence[int], window: int) -> Section:
    figure, (axes,) = panels(1, width=9, height=3.2)
    trust = table["trust"][:, : len(names)].astype(float)  # a model may have room for more
    rows, first = windowed(trust[:, 0], window)
    shares = [first, *(windowed(trust[:, e], window)[1] for e in range(1, trust.shape[1]))]
    step = max(1, len(rows) // POINTS)
    colours = [COLORS[e % len(COLORS)] for e in range(len(names))]
    axes.stackplot(rows[::step], [share[::step] for share in shares], labels=names, colors=colours, alpha=0.8)
    _marks(axes, drifts)
    axes.set_ylim(0, max(1.0, float(np.sum(shares, 0).max())))
    axes.set_xlim(rows[0], rows[-1])
    axes.set_ylabel(f"trust, last {window} rows", fontsize=8)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    text = "The router's weight of each expert in the predictions, as a mean over rows."
    return Section("Whom the router trusts", text, [figure])


def _experts(
    table: dict[str, np.ndarray], experts: Mapping[str, int], drifts: Sequence[int], window: int
) -> Section:
    figure, (axes,) = panels(1, width=9, height=3.0)
    label, rows_of_table = table["label"], []
    for e, (name, first) in enumerate(experts.items()):
        hits = right(label[first:], table["said"][first:, e])
        if not len(hits):
            continue
        rows, means = windowed(hits, window)
        _line(axes, first + rows, means, label=name, linewidth=1.2, color=COLORS[e % len(COLORS)])
        trust = float(table["trust"][first:, e].astype(float).mean())
        rows_of_table.append(
            {"expert": name, "accuracy alone": round(float(hits.mean()), 4), "mean trust": round(trust, 4)}
        )
    mixed = round(float(right(label, table["predicted"]).mean()), 4)
    rows_of_table.append({"expert": "mixture", "accuracy alone": mixed, "mean trust": ""})
    _marks(axes, drifts)
    axes.set_ylabel(f"accuracy, last {window} rows", fontsize=8)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    text = "What each expert says by itself, whether it is trusted or not, since it has been there."
    return Section("Each expert alone", text, [figure], rows_of_table)


def _floors(label: np.ndarray) -> dict[str, np.ndarray]:
    return {name.replace("_", " "): rule(label) for name, rule in FLOORS.items()}


def _line(axes: Axes, rows: np.ndarray, means: np.ndarray, **style: Any) -> None:
    step = max(1, len(rows) // POINTS)
    axes.plot(rows[::step], means[::step], **style)


def _marks(axes: Axes, drifts: Sequence[int]) -> None:
    for row in drifts:
        axes.axvline(row, color="black", linestyle=":", linewidth=1)
    axes.set_xlabel("row of the stream", fontsize=8)
