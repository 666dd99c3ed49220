"""The part of a run's report that tells what each expert does."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from collegium.inspection import Specialisation

from apps.common.expert_plots import company, load_over_time, over_chance
from apps.common.metrics_file import Curve, Row, read_curves
from apps.common.plots import ExpertMap, curves, expert_load, expert_maps, shares_of
from apps.common.report import Section

TEXT = """
Share of the assignments that chose each expert, in percent, over the validation rows; below, load over the
training, a column for each validation. White is even load, red is more, blue is less.

Max violation tells how far the most used expert lies above even load (0 is even); entropy how undecided the
router is (0 is sure, 1 knows nothing). An expert is dead with less than a hundredth of the even load.
Experts that every token has, where there are any, are left out of max violation and of the dead.
"""
EVEN = """
In every layer each token has all experts, so that none is chosen more than another; entropy tells how
undecided their weights are (0 is sure of one, 1 weighs all alike).
"""
BY_LABEL = """
Expert by label: share of each expert in what it serves of a label, over an even share. The table tells mutual
information over the entropy of the label: 1 where the expert tells it, 0 where it says nothing; its 95%
interval; and what labels dealt out at random would reach. An interval above chance is specialisation.
"""
TOGETHER = """
Chosen together: how often two experts serve the same token, over how often they would by chance, each being
chosen as often as it is. Red pairs meet more often, blue ones less.
"""


def experts_section(
    rows: Sequence[Row], step: int, layers: Mapping[str, Any] | None = None
) -> Section | None:
    """Tell and draw how the experts were used at a step, and how that came about over the training.

    Args:
        rows: of metrics.csv.
        step: that of the checkpoint.
        layers: layer -> the tables that `RoutingMonitor` kept in the checkpoint.
    """
    used = [row for row in rows if int(row["step"]) < step and any(_is_load(name, row) for name in row)]
    if not used:
        return None
    layers, figures_of = layers or {}, _figures(used[-1])
    loads = {layer: _loads(figures) for layer, figures in figures_of.items()}
    history, over_time = _history(rows, loads), _evenness(rows)
    if any(np.ptp(shares) > 0 for _, shares in history.values()):
        figures, text = [expert_load(loads), load_over_time(history)], [TEXT]
    else:
        figures, text = [], [EVEN]
        over_time.pop("max violation", None)
    figures += [curves(over_time)] if over_time else []
    by_label = _maps(layers)
    if by_label:
        text.append(BY_LABEL)
        figures.append(expert_maps(by_label))
    together = _together(layers)
    if together:
        text.append(TOGETHER)
        figures.append(company(together))
    return Section("Experts", "\n".join(text), figures, _table(figures_of, layers))


def tells(what: str, found: Specialisation) -> dict[str, str]:
    """Return the cells of a table that say how far experts tell a label."""
    return {
        f"tells {what}": f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]",
        f"chance, {what}": f"{found.chance:.3f}",
    }


def _figures(row: Row) -> dict[str, dict[str, float]]:
    """Return layer -> figure -> value of one row."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in row.items():
        if name.startswith("routing/") and value != "":
            layer, _, figure = name.removeprefix("routing/").rpartition("/")
            found[layer][figure] = float(value)
    return dict(found)


def _loads(figures: Mapping[str, float]) -> list[float]:
    return [value for name, value in figures.items() if name.startswith("load_")]


def _history(rows: Sequence[Row], layers: Mapping[str, Any]) -> dict[str, tuple[list[int], np.ndarray]]:
    """Return layer -> steps of the validations, and shares (experts, validations)."""
    seen = [(int(row["step"]) + 1, _figures(row)) for row in rows]
    history = {}
    for layer in layers:
        own = [(step, _loads(figures[layer])) for step, figures in seen if layer in figures]
        history[layer] = [step for step, _ in own], np.array([shares for _, shares in own]).T
    return history


def _evenness(rows: Sequence[Row]) -> dict[str, dict[str, Curve]]:
    over_time: dict[str, dict[str, Curve]] = defaultdict(dict)
    for name, curve in read_curves(rows, "routing/").items():
        layer, _, figure = name.removeprefix("routing/").rpartition("/")
        if figure in ("max_violation", "entropy"):
            over_time[figure.replace("_", " ")][layer] = curve
    return over_time


def _maps(layers: Mapping[str, Any]) -> list[list[ExpertMap]]:
    maps = []
    for layer, tables in layers.items():
        line = []
        for name, found in tables["labels"].items():
            shares = shares_of(np.array(found["table"]))
            numbers = [str(number) for number in range(shares.shape[1])]
            line.append(ExpertMap(f"{layer}: expert by {name}", name, numbers, shares))
        maps += [line] if line else []
    return maps


def _together(layers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return layer -> co-selection over chance, of layers where tokens choose some experts together."""
    found = {}
    for layer, tables in layers.items():
        together = np.array(tables.get("co_selection", [[0.0]]))
        apart = together[~np.eye(len(together), dtype=bool)]
        if len(together) > 2 and apart.max() > 0 and apart.min() < 1:
            found[layer] = over_chance(together)
    return found


def _table(figures_of: Mapping[str, Mapping[str, float]], layers: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for layer, figures in figures_of.items():
        dead = figures.get("dead_experts")
        row: dict[str, Any] = {
            "layer": layer,
            "max violation": figures.get("max_violation"),
            "entropy": figures.get("entropy"),
            "dead experts": None if dead is None else round(dead),
        }
        for name, found in layers.get(layer, {"labels": {}})["labels"].items():
            row |= tells(name, Specialisation(*(found[field] for field in Specialisation._fields)))
        rows.append(row)
    columns = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in columns} for row in rows]


def _is_load(name: str, row: Row) -> bool:
    return name.startswith("routing/") and "/load_" in name and row[name] != ""
