"""The metrics script: a run on held-out impressions, or on the next items of users, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from apps.common.evaluation import Measured, show, write_evaluation
from apps.common.runs import Run, find_run
from apps.common.trained import data_of, task_of
from apps.recsys.data import APP, Data
from apps.recsys.health import health, looked_at, own_shares, summary
from apps.recsys.model import Ranker
from apps.recsys.ranked import fame_of, ranked
from apps.recsys.ranked import measured as measured_users
from apps.recsys.ranked import parts as parts_of_users
from apps.recsys.recommender import Recommender
from apps.recsys.report import sections
from apps.recsys.scored import by_part, measured, scored, segments
from apps.recsys.task import Task

"""Rows on which the experts are looked at."""
Split = Literal["validation", "test"]
TEXTS = {
    "rows": "`auc` over all rows, `gauc` the mean of that among the rows of each user, weighted by rows; "
    "`log_loss` of the chances; `calibration`, expected over actual positives, 1 where chances are right on "
    "the whole; `ece`, the mean distance of chance and share of positives.",
    "parts": "AUC of each task by thirds of the rows, by how often their user, and their item, came in "
    "training. Not a number where a part has rows of one label alone.",
    "experts": "`dead` is the share of an expert's outputs that say the same of every row, `size` the root "
    "mean square of all, `weight` what the gates that see it give it, `serves` how many of these it really "
    "serves, as a share, `own` whether it is there for one task, `seen` by how many gates.",
    "health": "What HoME is to heal; 0 is none, of sizes 1. Collapse: the share of dead outputs among all. "
    "Sizes: the largest expert over the smallest. Degradation: one less the share of gates that common "
    "experts serve. Underfitting: one less the share that a task's own experts have in what it hears, over "
    "an even share, of the task with the least.",
    "users": "The last item of each user, ranked among all items that the user did not take before: `hr_10` "
    "is the share of users for whom it is among the first ten, `ndcg_10` counts more the earlier; "
    "`hr_10_liked` and `hr_10_not` are of users who liked that item, by its label, and who did not; `mrr` is "
    "the mean of one over the rank, `coverage_10` the share of all items that somebody is recommended. Users "
    "are parted into thirds by their items in training, and by how often the item that came was taken.",
}


def evaluate(run: Path | None = None, split: Split = "validation", out: Path | None = None) -> None:
    """Measure the best checkpoint of a run; print tables, and write them as JSON and as an HTML report.

    Args:
        run: a folder runs/recsys/<config>/<n>; the newest by default.
        split: choose on validation; open the test rows once, when all is chosen.
        out: folder of the two files; by default evaluation/<split> in the run's folder.
    """
    found = find_run(APP, run)
    task, data = load_run(found)
    network = task.network
    tables = (
        _of_users(network, data, split)
        if isinstance(network, Recommender)
        else _of_rows(network, data, split)
    )
    told = f"{split} {'users' if isinstance(network, Recommender) else 'rows'}"
    show(found, tables, told)
    write_evaluation(found, split, tables, sections(task, data, split), told, out=out)


def load_run(run: Run) -> tuple[Task, Data]:
    """The task of the best checkpoint, in evaluation mode, and the data module it was trained with, read.

    Raises UserError where the log is another one by now.
    """
    task, checkpoint = task_of(run, Task)
    data = data_of(run, Data)
    data.setup()
    data.load_state_dict(checkpoint["Data"])
    return task, data


def _of_rows(network: Ranker, data: Data, split: Split) -> list[Measured]:
    rows = data.part(split)
    said = scored(network, rows)
    table = [row for name, some in segments(said) for row in measured(name, some)]
    whole = [
        {name: cell for name, cell in row.items() if name != "slice"}
        for row in table
        if row["slice"] == "all"
    ]
    tables = [
        Measured("rows", "Metrics", TEXTS["rows"], whole),
        Measured("parts", "AUC by part", TEXTS["parts"], by_part(table)),
    ]
    batch = looked_at(rows).batch
    if experts := health(network, batch):
        ill: list[dict[str, Any]] = [
            {"disease": name, "size": value} for name, value in summary(experts, network, batch).items()
        ]
        ill += [
            {"disease": f"{name}: heard of its own experts", "size": share}
            for name, share in own_shares(network, batch).items()
        ]
        tables += [
            Measured("health", "Diseases of experts", TEXTS["health"], ill),
            Measured("experts", "Experts", TEXTS["experts"], experts),
        ]
    return tables


def _of_users(network: Recommender, data: Data, split: Split) -> list[Measured]:
    fame = fame_of(data.walks("train"), len(data.catalogue))
    found = ranked(network.scores, data.walks(split), fame)
    rows = [measured_users(name, some) for name, some in parts_of_users(found)]
    return [Measured("rows", "Metrics", TEXTS["users"], rows)]
