"""Putting generated text between the markers of a page."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from apps.common.errors import UserError

MARKER = re.compile(r"^<!-- results:\w+:\w+:(?:begin|end) -->$", re.MULTILINE)
BLOCK = re.compile(
    r"^(?P<begin><!-- results:(?P<app>\w+):(?P<profile>\w+):begin -->)$.*?"
    r"^(?P<end><!-- results:(?P=app):(?P=profile):end -->)$",
    re.MULTILINE | re.DOTALL,
)
Render = Callable[[str, str], str]
"""(app, profile) to the text between their markers."""


def fill(page: Path, text: str, render: Render) -> str:
    """Return the text of a page with everything between its markers rendered anew.

    Markers stand on lines of their own: `<!-- results:<app>:<profile>:begin -->`, and the same with `end`.
    Raises `UserError` for one without its partner.
    """
    if len(MARKER.findall(text)) != 2 * len(BLOCK.findall(text)):
        raise UserError(
            f"{page}: a results marker has no partner: give each `begin` its `end`, none inside another."
        )
    return BLOCK.sub(lambda m: f"{m['begin']}\n\n{render(m['app'], m['profile'])}\n\n{m['end']}", text)


def pages(root: Path, apps: Path) -> Iterator[Path]:
    """Yield the files that may hold markers: the markdown of `docs/` and of the top, the apps' READMEs."""
    yield from sorted((root / "docs").rglob("*.md"))
    yield from sorted(root.glob("*.md"))
    yield from sorted(apps.glob("*/README.md"))
