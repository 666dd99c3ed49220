"""Markdown tables of one data set."""

from collections.abc import Sequence
from statistics import fmean

from apps.common.compare.schema import Results, Row
from apps.common.compare.view import WHOLE, View
from apps.common.markdown import table

BLANK = "-"
FULL = 2
"""Metrics whose differences stand in the main table in full; of the others the verdict alone does."""


def main_table(view: View) -> str:
    """Return the table of the whole test split (or its first slice): values, differences and costs."""
    slice_ = view.slices[0]
    full, short = view.metrics(slice_)[:FULL], view.metrics(slice_)[FULL:]
    head = ["arm"]
    for metric in full:
        head += [metric, f"{metric}: difference to routed"]
    head += [*short, "active / total parameters", "training, s", "seeds"]
    body = []
    for arm in view.arms:
        cells = [arm]
        for metric in full:
            cells += [_value(view, arm, slice_, metric), _difference(view, arm, slice_, metric)]
        cells += [_short(view, arm, slice_, metric) for metric in short]
        body.append(cells + _cost([row for row in view.rows if row["arm"] == arm]))
    return table(head, body)


def slice_tables(view: View) -> list[str]:
    """Return a table for each metric that is measured on several slices: the slices beside each other."""
    tables = []
    parts = [slice_ for slice_ in view.slices if slice_ != WHOLE]
    metrics = dict.fromkeys(metric for slice_ in parts for metric in view.metrics(slice_))
    for metric in metrics:
        where = [slice_ for slice_ in parts if metric in view.metrics(slice_)]
        body = [[arm, *(_short(view, arm, slice_, metric) for slice_ in where)] for arm in view.arms]
        tables.append(table([metric, *(_with_units(view, slice_) for slice_ in where)], body))
    return tables


def _with_units(view: View, slice_: str) -> str:
    units = view.units(slice_)
    return f"{slice_} ({units} test units)" if units else slice_


def validation_table(results: Results) -> str | None:
    """Return the table of the scores by which settings were chosen, a column a data set; None without any."""
    best = {
        (choice["arm"], choice["data"]): min(scores)
        for choice in results.get("choices", [])
        if (scores := [t["validation"] for t in choice["trials"] if t["validation"] is not None])
    }
    sets = list(dict.fromkeys(data for _, data in best))
    arms = dict.fromkeys(arm for arm, _ in best)
    body = [
        [arm, *(f"{best[arm, data]:.4g}" if (arm, data) in best else BLANK for data in sets)] for arm in arms
    ]
    return table(["arm", *sets], body) if body else None


def _value(view: View, arm: str, slice_: str, metric: str) -> str:
    mean = view.mean(arm, slice_, metric)
    return BLANK if mean is None else f"{mean:.{view.decimals(slice_, metric)}f}"


def _difference(view: View, arm: str, slice_: str, metric: str) -> str:
    found = view.interval(arm, slice_, metric)
    if found is None:
        return BLANK
    decimals = view.decimals(slice_, metric)
    difference, low, high = (f"{found[key]:+.{decimals}f}" for key in ("difference", "low", "high"))
    return f"{difference} [{low}, {high}] {view.verdict(found)}"


def _short(view: View, arm: str, slice_: str, metric: str) -> str:
    found = view.interval(arm, slice_, metric)
    value = _value(view, arm, slice_, metric)
    return value if found is None else f"{value} ({view.verdict(found)})"


def _cost(rows: Sequence[Row]) -> list[str]:
    by_seed = {row["seed"]: row for row in rows}
    times = [row["train_seconds"] for row in by_seed.values() if row["train_seconds"] is not None]
    parameters = f"{_count(rows[0]['active_params'])} / {_count(rows[0]['total_params'])}"
    return [parameters, f"{fmean(times):.1f}" if times else BLANK, str(len(by_seed))]


def _count(number: int | None) -> str:
    """Write a count with a unit.

    >>> [_count(n) for n in (None, 0, 999, 1234, 12_345_678)]
    ['-', '0', '999', '1.2k', '12.3M']
    """
    if number is None:
        return BLANK
    for unit, size in (("M", 1_000_000), ("k", 1000)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)
