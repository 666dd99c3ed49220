"""Markdown that programs write."""

import re
from collections.abc import Sequence


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table; bars inside cells are escaped."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def between(name: str, text: str, page: str) -> str:
    """The page with a text between the lines `<!-- <name>:begin -->` and `<!-- <name>:end -->`.

    Raises ValueError where they are missing.
    """
    begin, end = (re.escape(f"<!-- {name}:{side} -->\n") for side in ("begin", "end"))
    found, count = re.subn(f"(?<={begin}).*?(?={end})", lambda _: f"\n{text}\n\n", page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page must have the markers {name}:begin and {name}:end once")
    return found
