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


def origin(measured: Results, peer: str) -> str:
    """Where the figures come from."""
    return (
        f"{measured['environment']['cpu']}, one thread, torch {measured['environment']['torch']}, commit "
        f"`{measured['commit'][:10]}`, `{measured['command']}`; in brackets the ratio to {peer}."
    )


def _cell(value: float | None, peer: float | None) -> str:
    return "-" if value is None or peer is None else f"{value:,.4g} ({value / peer:.2f})"
