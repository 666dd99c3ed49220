"""Final cells as rows of a result file."""

from collections.abc import Iterable
from typing import NamedTuple

from apps.common.compare.arms import Outcome, Value
from apps.common.compare.cells import Cell
from apps.common.compare.schema import Row


class Measured(NamedTuple):
    """What the final cell of an arm measured on the test split; the cell may be another arm's that it is."""

    arm: str
    cell: Cell
    outcome: Outcome


def rows(measured: Iterable[Measured]) -> list[Row]:
    """Return one row for each value, in the order of the cells."""
    return [
        Row(
            data=cell.data,
            slice=value.slice,
            arm=arm,
            seed=cell.seed,
            metric=value.metric,
            value=value.value,
            higher_is_better=value.higher_is_better,
            active_params=outcome.cost.active_params,
            total_params=outcome.cost.total_params,
            active_flops=outcome.cost.active_flops,
            train_seconds=outcome.cost.train_seconds,
            peak_memory_mb=outcome.cost.peak_memory_mb,
        )
        for arm, cell, outcome in measured
        for value in map(Value._make, outcome.values)
    ]
