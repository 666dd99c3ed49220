"""The part of a run's report on whether routing settled, and whether neighbours keep their experts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from apps.common.metrics_file import Curve, Row, read_curves
from apps.common.plots import curves
from apps.common.report import Section

DRIFT = """
Drift: how far the routing of the same validation tokens moved since the validation before. Of experts, the
share of choices that changed (one minus the Jaccard index); of probabilities, the Jensen-Shannon divergence
in nats, at most 0.693. Both are 0 where nothing moves.
"""
NO_DRIFT = """
Drift needs two validations, one to compare the other with, and this run has had one: train for longer, or
validate more often.
"""
LOCALITY = """
Local consistency, in segments of {m} neighbours: SRP is the best F1 that one fixed set of experts a segment
can reach against what its tokens chose, SCH the hit rate of a cache that holds the experts which the segment
uses most. Chance is the same with all tokens in any order: a model that stays near it gains nothing from
loading experts for a stretch of a sequence.
"""
CURVES = {"drift_experts": "drift of experts", "drift_probs": "drift of probabilities, nats"}


def steadiness_section(rows: Sequence[Row], layers: Mapping[str, Any]) -> Section | None:
    """Tell and draw drift and local consistency of each layer; None where neither was measured.

    Args:
        rows: of metrics.csv.
        layers: layer -> the tables that `RoutingMonitor` kept in the checkpoint.
    """
    moved, table = _drift(rows), _table(layers)
    if not table and not moved:
        return None
    widths = {found["m"] for tables in layers.values() if "m" in (found := tables.get("locality", {}))}
    why = [DRIFT] if moved else [NO_DRIFT] if _validations(rows) < 2 else []
    text = why + [LOCALITY.format(m=width) for width in widths]
    return Section("Steadiness of routing", "\n".join(text), [curves(moved)] if moved else [], table)


def _validations(rows: Sequence[Row]) -> int:
    return sum(any("/load_" in name and value != "" for name, value in row.items()) for row in rows)


def _drift(rows: Sequence[Row]) -> dict[str, dict[str, Curve]]:
    """Return title -> layer -> curve."""
    found: dict[str, dict[str, Curve]] = defaultdict(dict)
    for name, curve in read_curves(rows, "routing/").items():
        layer, _, figure = name.removeprefix("routing/").rpartition("/")
        if figure in CURVES:
            found[CURVES[figure]][layer] = curve
    return found


def _table(layers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each layer, with the columns that at least one of them fills."""
    rows = [
        {"layer": layer, **_cells(tables)}
        for layer, tables in layers.items()
        if tables.get("drift") or tables.get("locality")
    ]
    columns = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in columns} for row in rows]


def _cells(tables: Mapping[str, Any]) -> dict[str, Any]:
    moved, near = tables.get("drift", {}), tables.get("locality", {})
    cells = {
        "drift of experts": moved.get("experts"),
        "drift of probabilities": moved.get("probs"),
        "SRP": near.get("srp"),
        "SRP, chance": near.get("srp_chance"),
        "cache": near.get("cache"),
        "SCH": near.get("sch"),
        "SCH, chance": near.get("sch_chance"),
        "left out": near.get("left_out"),
    }
    return {name: value for name, value in cells.items() if value is not None}
