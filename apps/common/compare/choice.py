"""Choosing among trials, on validation alone."""

import math
from collections.abc import Mapping

from apps.common.compare.cells import Finished
from apps.common.compare.plan import Plan
from apps.common.compare.schema import Choice, Scored
from apps.common.errors import UserError


def choose(plan: Plan, data: str, arm: str, finished: Mapping[str, Finished]) -> Choice | None:
    """Return the trial with the lowest validation score, the first of equals; None where a trial failed.

    A score that is not finite loses; `UserError` where all are. A single trial leaves nothing to choose.
    """
    trials = [dict(trial) for trial in plan.arms[arm].trials]
    cells = plan.trial_cells(data, arm)
    if any(cell.key not in finished for cell in cells):
        return None
    scores = [finished[cell.key].validation for cell in cells] or [None]
    if cells and all(score is None for score in scores):
        raise UserError(
            f"{data}: no trial of {arm} has a finite score: mend its trials in apps/{plan.app}/compare.py."
        )
    best = min(range(len(trials)), key=lambda n: math.inf if (score := scores[n]) is None else score)
    scored = [Scored(trial=trial, validation=score) for trial, score in zip(trials, scores, strict=True)]
    return Choice(data=data, arm=arm, seeded=plan.arms[arm].seeded, trials=scored, chosen=trials[best])
