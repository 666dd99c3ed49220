"""Self-contained HTML reports: text, tables and pictures in one file."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from apps.common.files import write_text

CODE = re.compile(r"`([^`]+)`")


@dataclass
class Section:
    """One part of a report.

    Attributes:
        title: its heading.
        text: paragraphs, parted by blank lines; `code` between backticks.
        figures: pictures, drawn as PNG.
        table: rows, all with the same keys; None for no table.
    """

    title: str
    text: str = ""
    figures: list[Figure] = field(default_factory=list)
    table: list[dict[str, Any]] | None = None


def write_report(path: Path, title: str, sections: Sequence[Section], subtitle: str = "") -> None:
    """Write one HTML file that needs no other: pictures are inside, and nothing is fetched."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    environment.filters |= {"png": _png, "width": _width, "cell": _cell, "paragraphs": _paragraphs}
    template = environment.get_template("report.html.jinja")
    write_text(path, template.render(title=title, subtitle=subtitle, sections=sections))


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return base64.b64encode(buffer.getvalue()).decode()


def _width(figure: Figure) -> int:
    return round(96 * float(figure.get_figwidth()))  # CSS pixels an inch


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _paragraphs(text: str) -> list[Markup]:
    """Parts between blank lines, with what stands between backticks as code."""
    parts = [str(escape(part.strip())) for part in text.split("\n\n") if part.strip()]
    return [Markup(CODE.sub(r"<code>\1</code>", part)) for part in parts]
