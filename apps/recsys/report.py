"""The pictures of a report: of a ranker, or of a recommender."""

from __future__ import annotations

from typing import Literal

from apps.common.report import Section
from apps.recsys import report_next, report_rows
from apps.recsys.data import Data
from apps.recsys.recommender import Recommender
from apps.recsys.task import Task


def sections(task: Task, data: Data, split: Literal["validation", "test"] = "validation") -> list[Section]:
    """Those of the network's kind."""
    if isinstance(task.network, Recommender):
        return report_next.sections(task.network, data, split)
    return report_rows.sections(task.network, data.part(split))
