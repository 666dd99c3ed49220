"""The metrics script: what a run said of its stream, measured."""

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from apps.common.console import print_rows
from apps.common.files import write_text
from apps.common.report import Section, write_report
from apps.common.runs import Run, find_run, load_checkpoint
from apps.drift.data import Data
from apps.drift.metrics import FLOORS, measure, recovery, right
from apps.drift.report import sections
from apps.drift.task import Task

APP = "drift"
EARLY = 1 / 3
"""The share of a stream on which settings are chosen; what comes after it tests them."""


def evaluate(run: Path | None = None, split: Literal["all", "validation", "test"] = "all") -> None:
    """Measure a run; print a table, and write it as JSON and as an HTML report.

    Every prediction was made before its label was learned, so that all rows count.

    Args:
        run: a folder runs/drift/<config>/<n>; the newest by default.
        split: the whole stream; or its first third, to choose settings by; or the rest, which shows what
            they are worth.
    """
    found = find_run(APP, run)
    task, data = load_run(found)
    table = part(task.history.table(), split)
    rows = tell(table, task.network.expert_names, data.drifts if split == "all" else [])
    print_rows(rows, f"{found.path}, {split} rows")
    out = found.path / "evaluation" / split
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "metrics.json", json.dumps({"split": split, "rows": rows}, indent=2))
    text = "kappa_m is kappa over the majority label so far, kappa_t over repeating the last one."
    title = f"{APP}: {found.path.parent.name}, run {found.path.name}"
    report = [Section("Metrics", text, table=rows), *sections(task, data)]
    write_report(out / "report.html", title, report, f"{split} rows")
    print(f"Report: {out / 'report.html'}")


def load_run(run: Run) -> tuple[Task, Data]:
    """The task of the newest checkpoint, with its history, and the data module, without the stream."""
    state = load_checkpoint(run.best, APP)
    options: dict[str, Any] = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))["data"]
    data = Data(**options)
    data.load_state_dict(state["Data"])
    return Task.load_from_checkpoint(run.best, map_location="cpu").eval(), data


def part(table: dict[str, np.ndarray], split: Literal["all", "validation", "test"]) -> dict[str, np.ndarray]:
    """The rows of a history that belong to a split."""
    early = int(EARLY * len(table["label"]))
    rows = {"all": slice(None), "validation": slice(early), "test": slice(early, None)}[split]
    return {name: column[rows] for name, column in table.items()}


def tell(table: dict[str, np.ndarray], names: Sequence[str], drifts: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of {slice, rows, accuracy, kappa, kappa_m, kappa_t, recovery}.

    The whole, between drifts (with the rows that the drift before cost), each expert by itself, the floors.
    """
    label, predicted = table["label"], table["predicted"]
    rows = [_row("mixture", label, predicted)]
    inside = [row for row in drifts if 0 < row < len(label)]
    costs = [float("nan"), *recovery(right(label, predicted), inside)]
    for begin, end, cost in zip([0, *inside], [*inside, len(label)], costs, strict=True) if inside else []:
        row = _row(f"rows {begin:,} to {end:,}", label[begin:end], predicted[begin:end])
        rows.append(row | {"recovery": int(cost) if isfinite(cost) else None})
    rows += [_row(f"expert {name}", label, table["said"][:, e]) for e, name in enumerate(names)]
    return rows + [_row(name, label, rule(label)) for name, rule in FLOORS.items()]


def _row(name: str, label: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    found = measure(label, predicted)
    known = {metric: round(value, 4) if isfinite(value) else None for metric, value in found.items()}
    return {"slice": name, "rows": len(label), **known}
