"""The metrics script: what a run said of its stream, measured."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apps.common.evaluation import Measured, show, write_evaluation
from apps.common.runs import Run, find_run
from apps.common.trained import data_of, task_of
from apps.drift.data import APP, Data
from apps.drift.fair.fairness import gaps
from apps.drift.metrics import FLOORS, measure, recovery, right
from apps.drift.report import sections
from apps.drift.task import Task

EARLY = 1 / 3
"""The share of a stream on which settings are chosen; what comes after it tests them."""


def evaluate(
    run: Path | None = None,
    split: Literal["all", "validation", "test"] = "all",
    out: Path | None = None,
) -> None:
    """Measure a run; print a table, and write it as JSON and as an HTML report.

    Every prediction was made before its label was learned, so that all rows count. Where the stream has a
    sensitive column, a second table tells the gaps between groups.

    Args:
        run: a folder runs/drift/<config>/<n>; the newest by default.
        split: the whole stream; or its first third, to choose settings by; or the rest, which shows what
            they are worth.
        out: folder of the two files; by default evaluation/<split> in the run's folder.
    """
    found = find_run(APP, run)
    task, data = load_run(found)
    whole = task.history.table()
    table = part(whole, split)
    before = len(whole["label"]) - len(table["label"]) if split == "test" else 0
    names = task.network.expert_names
    experts = {name: max(0, row - before) for name, row in zip(names, task.network.since(), strict=True)}
    drifts = data.drifts if split == "all" else []
    rows = tell(table, experts, drifts, data.width)
    unfair = tell_gaps(table, experts, drifts) if data.has_gaps else []
    if data.sensitive is not None and not unfair:
        print(f"note: gaps between groups are of two labels, and this stream has {len(data.labels.names)}.")
    text = "kappa_m is kappa over the majority label so far, kappa_t over repeating the last one."
    tables = [Measured("rows", "Metrics", text, rows)]
    if unfair:
        text = f"Between groups by {data.sensitive}, of decisions; 0 is fair."
        tables.append(Measured("gaps", "Gaps", text, unfair))
    show(found, tables, f"{split} rows")
    told = f"figures of {split} rows, pictures of all"
    write_evaluation(found, split, tables, sections(task, data), told, out=out)


def load_run(run: Run) -> tuple[Task, Data]:
    """The task of the newest checkpoint, with its history, and the data module, without the stream."""
    task, state = task_of(run, Task)
    data = data_of(run, Data)
    data.load_state_dict(state["Data"])
    return task, data


def part(table: dict[str, np.ndarray], split: Literal["all", "validation", "test"]) -> dict[str, np.ndarray]:
    """The rows of a history that belong to a split."""
    early = int(EARLY * len(table["label"]))
    rows = {"all": slice(None), "validation": slice(early), "test": slice(early, None)}[split]
    return {name: column[rows] for name, column in table.items()}


def tell(
    table: dict[str, np.ndarray], experts: Mapping[str, int], drifts: Sequence[int], width: int = 0
) -> list[dict[str, Any]]:
    """Rows of {slice, rows, accuracy, kappa, kappa_m, kappa_t, recovery_rows}.

    The whole, between drifts (with the rows that the drift before cost), each expert by itself, since the row
    at which it joined, the floors.
    """
    label, predicted = table["label"], table["predicted"]
    rows = [_row("all", label, predicted)]
    spans = _between(drifts, len(label))
    costs = [float("nan"), *recovery(right(label, predicted), [begin for begin, _ in spans[1:]], width)]
    for (begin, end), cost in zip(spans, costs, strict=True) if spans else []:
        row = _row(f"rows {begin:,} to {end:,}", label[begin:end], predicted[begin:end])
        rows.append(row | {"recovery_rows": int(cost) if np.isfinite(cost) else None})
    for e, (name, first) in enumerate(experts.items()):
        if first < len(label):
            rows.append(_row(f"expert {name}", label[first:], table["said"][first:, e]))
    rows += [_row(name, label, rule(label)) for name, rule in FLOORS.items()]
    return [row | {"recovery_rows": row.get("recovery_rows")} for row in rows] if spans else rows


def tell_gaps(
    table: dict[str, np.ndarray], experts: Mapping[str, int], drifts: Sequence[int]
) -> list[dict[str, Any]]:
    """Rows of {slice, rows} and the gap by each measure: of the whole, between drifts, of each expert.

    Burden is known of the mixture alone, and where experts are linear.
    """
    parts = {"all": table}
    for begin, end in _between(drifts, len(table["label"])):
        parts[f"rows {begin:,} to {end:,}"] = {name: column[begin:end] for name, column in table.items()}
    for e, (name, first) in enumerate(experts.items()):
        known = {key: table[key][first:] for key in ("label", "group")}
        if len(known["label"]):
            parts[f"expert {name}"] = known | {"predicted": table["said"][first:, e]}
    blank = dict.fromkeys(gaps(table))
    return [{"slice": name, "rows": len(some["label"])} | blank | gaps(some) for name, some in parts.items()]


def _between(drifts: Sequence[int], rows: int) -> list[tuple[int, int]]:
    """(begin, end) of the stretches between drifts; none where there is no drift."""
    inside = [row for row in drifts if 0 < row < rows]
    return list(pairwise([0, *inside, rows])) if inside else []


def _row(name: str, label: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    found = measure(label, predicted)
    return {"slice": name, "rows": len(label), **found}
