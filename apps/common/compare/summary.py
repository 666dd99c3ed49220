"""All apps in one table: how the routed model of each set stands against its controls and the rest."""

from collections.abc import Sequence

from apps.common.compare.places import results_file
from apps.common.compare.results import read_results
from apps.common.compare.trials import ROUTED
from apps.common.compare.view import LEVEL, View
from apps.common.discovery import app_names
from apps.common.markdown import table

LAST_CONTROL = "random_router"
"""Arms up to this one are controls of the routed model, those after it are what else there is."""

HEAD = (
    "app",
    "data",
    "metric",
    "routed",
    "best control",
    "ahead / level / behind",
    "best other",
    "ahead / level / behind",
)
READING = (
    "Means over seeds on test data, of the first metric of each comparison. *Controls* are the same model "
    "with a dense block in place of its experts, of equal active and of equal total size, or what comes "
    "nearest to it, and with a frozen random router; *others* are the tools of the field, floors, and "
    "further networks of the app. The routed model is ahead of an arm, or behind it, where the 95% interval "
    "of the paired difference excludes zero, and level with it elsewhere; an arm with too few seeds for that "
    "is not counted."
)


def summary(profile: str) -> str:
    """The markdown of a profile of all apps that have been measured with it: a line for each set."""
    lines = []
    for app in app_names():
        if (path := results_file(app, profile)).exists():
            lines += [
                [f"[{app}](apps/{app}/README.md)", *line(view)] for view in View.each(read_results(path))
            ]
    if not lines:
        return f"No results yet: `make compare APP=<app> PROFILE={profile}` writes them."
    return f"{table(HEAD, lines)}\n\n{READING}"


def line(view: View) -> list[str]:
    """The cells of one set, from its name on."""
    slice_ = view.slices[0]
    metric = view.metrics(slice_)[0]
    arms = [arm for arm in view.arms if arm != ROUTED]
    end = arms.index(LAST_CONTROL) + 1 if LAST_CONTROL in arms else 0
    controls, others = arms[:end], [arm for arm in arms[end:] if not _same(view, arm, slice_, metric)]
    value = f"{view.mean(ROUTED, slice_, metric):.{view.decimals(slice_, metric)}f}"
    return [
        view.data,
        metric,
        value,
        *_against(view, controls, slice_, metric),
        *_against(view, others, slice_, metric),
    ]


def _against(view: View, arms: Sequence[str], slice_: str, metric: str) -> tuple[str, str]:
    """The best of some arms, and how many of them the routed one is ahead of, level with and behind."""
    known = {arm: mean for arm in arms if (mean := view.mean(arm, slice_, metric)) is not None}
    if not known:
        return "-", "-"
    sign = -1 if view.higher_is_better(slice_, metric) else 1
    best = min(known, key=lambda arm: sign * known[arm])
    intervals = [found for arm in known if (found := view.interval(arm, slice_, metric)) is not None]
    said = " ".join(map(view.verdict, intervals))
    counts = (str(said.count(verdict)) for verdict in (f"{ROUTED} better", LEVEL, f"{ROUTED} worse"))
    return f"{best} {known[best]:.{view.decimals(slice_, metric)}f}", " / ".join(counts)


def _same(view: View, arm: str, slice_: str, metric: str) -> bool:
    """Whether an arm is the routed one under its own name."""
    found = view.interval(arm, slice_, metric)
    return found is not None and found["low"] == found["high"] == 0
