"""Tables of a benchmark whose figures stand beside those of a peer."""

from collections.abc import Mapping

from apps.common import markdown
from apps.common.compare.schema import Results


def beside(figures: Mapping[str, Mapping[str, float | None]], peer: str, first: str) -> str:
    """A row for each arm and a column for each title: the figure, and in brackets its ratio to the peer's.

    Args:
        figures: by arm and title of a column; None where nothing is known.
        peer: an arm.
        first: title of the first column.
    """
    body = [
        [arm, *(_cell(value, figures[peer][title]) for title, value in of_arm.items())]
        for arm, of_arm in figures.items()
    ]
    return markdown.table([first, *figures[peer]], body)


def of_metrics(measured: Results, titles: Mapping[str, str], memory: str, peer: str, first: str) -> str:
    """The table of what was measured on one set, and where it comes from.

    Args:
        measured: a result file with the same metrics of every arm.
        titles: of the metrics.
        memory: title of the peak memory.
        peer: an arm.
        first: title of the first column.
    """
    figures: dict[str, dict[str, float | None]] = {}
    for each in measured["rows"]:
        figures.setdefault(each["arm"], {})[titles[each["metric"]]] = each["value"]
    for each in measured["rows"]:
        figures[each["arm"]][memory] = each["peak_memory_mb"]
    return f"{beside(figures, peer, first)}\n\n{origin(measured, peer)}"


def origin(measured: Results, peer: str) -> str:
    """Where the figures come from."""
    return (
        f"{measured['environment']['cpu']}, one thread, torch {measured['environment']['torch']}, commit "
        f"`{measured['commit'][:10]}`, `{measured['command']}`; in brackets the ratio to {peer}."
    )


def _cell(value: float | None, peer: float | None) -> str:
    return "-" if value is None or peer is None else f"{value:,.4g} ({value / peer:.2f})"
