"""What a result file keeps when only some of a profile's data sets are measured again."""

from collections.abc import Sequence
from typing import TypeVar

from apps.common.compare.plan import Plan
from apps.common.compare.schema import Choice, Interval, Results, Row, Run

Entry = TypeVar("Entry", Row, Interval, Choice)


def with_kept(plan: Plan, results: Results, earlier: Results | None) -> Results:
    """Add to new results what an earlier file holds of sets that the plan does not want measured.

    A set is kept if every figure of it stems from the profile as it is now: data, arms, trials, settings,
    budget and seeds. Otherwise it counts as unmeasured.
    """
    others = [] if earlier is None else [name for name in plan.data if name not in plan.wanted]
    kept = [name for name in others if earlier is not None and _is_current(plan, earlier, name)]
    left = [name for name in plan.data if name not in (*plan.wanted, *kept)]
    if left:
        results = {**results, "unmeasured": left}
    if earlier is None or not kept:
        return results
    return {
        **results,
        "data": {name: plan.data[name] for name in plan.data if name not in left},
        "rows": _in_order(plan, results["rows"], _of_sets(earlier["rows"], kept)),
        "intervals": _in_order(plan, results["intervals"], _of_sets(earlier["intervals"], kept)),
        "choices": _in_order(plan, results["choices"], _of_sets(earlier["choices"], kept)),
        "earlier": _runs(earlier, kept),
    }


def _is_current(plan: Plan, earlier: Results, name: str) -> bool:
    choices = {choice["arm"]: choice for choice in _of_sets(earlier["choices"], [name])}
    tried = {arm: [scored["trial"] for scored in choice["trials"]] for arm, choice in choices.items()}
    if tried != {arm: [dict(trial) for trial in told.trials] for arm, told in plan.arms.items()}:
        return False
    cells = [(arm, cell) for arm, choice in choices.items() for cell in plan.chosen_cells(choice)]
    tested = {entry["configuration"] for entry in earlier["tested"] if entry["current"]}
    fits = {(row["arm"], row["seed"]) for row in _of_sets(earlier["rows"], [name])}
    known = all(cell.configuration in tested for _, cell in cells)
    return known and fits == {(arm, cell.seed) for arm, cell in cells}


def _runs(earlier: Results, kept: Sequence[str]) -> list[Run]:
    """The runs that measured the sets that are kept, the last one of the earlier file at the end."""
    before = earlier.get("earlier", [])
    told = [name for run in before for name in run["data"]]
    last = Run(
        data=[name for name in earlier["data"] if name not in told],
        created=earlier["created"],
        commit=earlier["commit"],
        environment=earlier["environment"],
        code=earlier["code"],
        cpu_hours=earlier["cpu_hours"],
    )
    runs: list[Run] = [{**run, "data": [d for d in run["data"] if d in kept]} for run in (*before, last)]
    return [run for run in runs if run["data"]]


def _of_sets(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    return [entry for entry in entries if entry["data"] in names]


def _in_order(plan: Plan, new: Sequence[Entry], old: Sequence[Entry]) -> list[Entry]:
    entries = list(new) + list(old)
    return [entry for name in plan.data for entry in _of_sets(entries, [name])]
