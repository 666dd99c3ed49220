"""The metrics script: a run on held-out rows, measured."""

from pathlib import Path
from typing import Any, Literal

import torch

from apps.common.evaluation import Measured, show, write_evaluation
from apps.common.runs import Run, find_run
from apps.common.template.data import APP, Data
from apps.common.template.metrics import hits, log_loss
from apps.common.template.report import sections
from apps.common.template.task import Task
from apps.common.trained import data_of, task_of


def evaluate(
    run: Path | None = None,
    split: Literal["validation", "test"] = "validation",
    out: Path | None = None,
) -> None:
    """Measure the best checkpoint of a run; print a table, and write it as JSON and as an HTML report.

    Args:
        run: a folder runs/template/<config>/<n>; the newest by default.
        split: choose on validation; open the test rows once, when all is chosen.
        out: folder of the two files; by default evaluation/<split> in the run's folder.
    """
    found = find_run(APP, run)
    task, data = load_run(found)
    data.setup()
    rows = measure(task, data, split)
    tables, told = [Measured("rows", "Metrics", "", rows)], f"{split} rows"
    show(found, tables, told)
    write_evaluation(found, split, tables, sections(task, data, split), told, out=out)


def load_run(run: Run) -> tuple[Task, Data]:
    """The task of the best checkpoint, in evaluation mode, and the data module it was trained with."""
    return task_of(run, Task)[0], data_of(run, Data)


@torch.no_grad()
def measure(task: Task, data: Data, split: Literal["validation", "test"]) -> list[dict[str, Any]]:
    """Rows of {slice, rows, accuracy, log_loss}: all, and by class."""
    x, label = data.part(split)
    logits = task.network(x)
    right, loss = hits(logits, label), log_loss(logits, label)
    slices = {"all": torch.ones_like(label, dtype=torch.bool)}
    slices |= {name: label == i for i, name in enumerate(data.classes)}
    return [
        {
            "slice": name,
            "rows": int(own.sum()),
            "accuracy": float(right[own].mean()),
            "log_loss": float(loss[own].mean()),
        }
        for name, own in slices.items()
        if own.any()
    ]
