"""One picture of a result file: every arm's difference to the routed arm, with its interval."""

import io
from statistics import median
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apps.common.compare.schema import Interval, Results
from apps.common.compare.trials import ROUTED
from apps.common.compare.view import BY_SEEDS, View

COLOURS = {f"{ROUTED} better": "#1b7837", f"{ROUTED} worse": "#b2182b"}
GREY = "#777777"
SHOWN = 4.0
"""An arm further from zero than this many times the median arm is drawn at the edge, with its number."""
STYLE: Any = {"svg.hashsalt": "results", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}


def draw(results: Results) -> str:
    """Return an SVG of the first metric: a panel a data set, an interval an arm. Equal input, equal text."""
    views = [view for view in View.each(results) if view.intervals]
    heights = [len(_shown(view)) for view in views]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, sum(0.3 * height + 0.75 for height in heights)), layout="constrained")
        panels = figure.subplots(len(views), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, view in zip(panels, views, strict=True):
            _draw_panel(axes, view)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _shown(view: View) -> list[Interval]:
    """Return the intervals of the first metric that has any, the whole test split before its parts."""
    places = [(slice_, metric) for slice_ in view.slices for metric in view.metrics(slice_)]
    rows = [[view.interval(arm, *place) for arm in view.arms] for place in places]
    return next(found for row in rows if (found := [interval for interval in row if interval is not None]))


def _draw_panel(axes: Axes, view: View) -> None:
    intervals = _shown(view)
    edge = SHOWN * median(max(abs(i["low"]), abs(i["high"]), 1e-12) for i in intervals)
    edge = min(edge, 1.1 * max(max(abs(i["low"]), abs(i["high"]), 1e-12) for i in intervals))
    axes.axvline(0, color="black", linewidth=0.8)
    for height, interval in enumerate(intervals):
        _draw_interval(
            axes, height, interval, COLOURS.get(view.verdict(interval).removesuffix(BY_SEEDS), GREY), edge
        )
    axes.set_xlim(-edge, edge)
    axes.set_ylim(len(intervals) - 0.5, -0.5)
    axes.set_yticks(range(len(intervals)), [i["arm"] for i in intervals])
    axes.set_title(_title(view, intervals[0]), loc="left", fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _title(view: View, interval: Interval) -> str:
    metric = interval["metric"]
    better = "higher" if view.higher_is_better(interval["slice"], metric) else "lower"
    return f"{view.data}: {metric} of the arm minus {ROUTED} ({better} is better)"


def _draw_interval(axes: Axes, height: int, interval: Interval, colour: str, edge: float) -> None:
    difference = interval["difference"]
    if abs(difference) <= edge:
        axes.plot([interval["low"], interval["high"]], [height, height], color=colour, linewidth=2)
        axes.plot([difference], [height], "o", color=colour, markersize=5)
        return
    side = 1 if difference > 0 else -1
    axes.plot([0.97 * side * edge], [height], ">" if side > 0 else "<", color=colour, markersize=6)
    align = "right" if side > 0 else "left"
    axes.text(0.93 * side * edge, height, f"{difference:+.3g}", ha=align, va="center", color=colour)
