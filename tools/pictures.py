"""Takes the pictures of README.md from the reports of the newest default runs: python tools/pictures.py

Train each app with `make train APP=...` before.
"""

import base64
import re
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
PICTURES = {
    "timeseries": "Forecasts",
    "drift": "Whom the router trusts",
    "lidar": "A phantom",
    "recsys": "Gates by task",
    "pointcloud": "Scans",
}
"""Of each app, the section of its report whose first picture is shown."""
LARGEST = 1200, 1200
"""Pixels."""


def take(runs: Path, app: str, section: str) -> None:
    """Write docs/assets/<app>.png."""
    newest = max((runs / app / "default").iterdir(), key=lambda run: int(run.name))
    page = (newest / "report.html").read_text(encoding="utf-8")
    _, found, rest = page.partition(f"<h2>{section}</h2>")
    picture = re.search(r'src="data:image/png;base64,([^"]+)"', rest)
    if not found or picture is None:
        sys.exit(f"{newest / 'report.html'} has no picture in a section {section!r}")
    with Image.open(BytesIO(base64.b64decode(picture[1]))) as image:
        image.thumbnail(LARGEST)
        image.convert("RGB").quantize(128).save(ROOT / "docs" / "assets" / f"{app}.png", optimize=True)


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs"
    for name, title in PICTURES.items():
        take(where, name, title)
