"""What an arm achieved on test impressions, with test units for intervals."""

from __future__ import annotations

import numpy as np

from apps.common.compare import Cost, Outcome, Value
from apps.common.compare.arms import Place
from apps.common.compare.units import unit_means
from apps.recsys.metrics import auc, auc_by_user, auc_units, calibration, counted, log_loss, mean_auc
from apps.recsys.scored import Scored, segments

UNITS = 50
"""Test units: as many groups of users, or of rows where nobody is told."""


def outcome(found: Scored, cost: Cost, fewest: int, more: dict[str, float] | None = None) -> Outcome:
    """The mean AUC over tasks that have enough positives, that of each task, and of parts of the rows.

    Units of an AUC are those of `metrics.auc_units`, and those of a GAUC its users. Tasks with fewer
    positives are measured, and left out of the mean. Miscalibration is the logarithm of the expected over the
    actual positives, without its sign.

    Args:
        found: chances beside the labels of test rows.
        cost: of the arm.
        fewest: positives that a task must have in the test rows for its AUC to count in the mean.
        more: what the health of its experts is.
    """
    unit = units_of(found)
    values: list[Value] = []
    units: dict[Place, np.ndarray] = {}
    weights: dict[Place, np.ndarray] = {}
    enough, areas = counted(found.label, fewest), []
    for place, task in enumerate(found.tasks):
        chance, label, user = found.of_task(place)
        known = ~np.isnan(found.label[:, place])
        areas.append(auc_units(chance, label, unit[known], UNITS))
        values += [
            Value(task, "auc", float(areas[-1].mean()), True),
            Value(task, "log_loss", log_loss(chance, label), False),
        ]
        if label.any():
            values.append(Value(task, "miscalibration", abs(np.log(calibration(chance, label))), False))
        if place in enough:
            units[task, "auc"] = areas[-1]
        who, own, rows = auc_by_user(chance, label, user)
        if len(own):
            mean, weight = unit_means(own, who.astype(np.int64) % UNITS, UNITS, rows)
            mean, weight = mean[weight > 0], weight[weight > 0]
            values.append(Value(task, "gauc", float(np.average(mean, weights=weight)), True))
            if place in enough:
                units[task, "gauc"], weights[task, "gauc"] = mean, weight
    whole = np.mean([areas[place] for place in enough], axis=0)
    units["all", "auc"] = whole
    for name, some in segments(found):
        means = [auc(*some.of_task(place)[:2]) for place in enough]
        if name != "all" and np.isfinite(means).all():
            values.append(Value(name, "auc", float(np.mean(means)), True))
    values = [Value("all", "auc", float(whole.mean()), True), *values]
    values += [Value("all", name, size, False) for name, size in (more or {}).items()]
    return Outcome(values, units, cost, weights)


def score(found: Scored) -> float:
    """One less the mean AUC of tasks with positives enough to tell, by which settings are chosen."""
    return 1 - mean_auc(found.chance, found.label)


def units_of(found: Scored) -> np.ndarray:
    """(N,) the unit of each row: its user's, or its own where nobody is told."""
    rows = np.arange(len(found.user))
    return np.where(found.user >= 0, found.user, rows) % UNITS
