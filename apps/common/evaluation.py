"""What the metrics script of an app writes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.common.files import write_text
from apps.common.report import Section, write_report
from apps.common.runs import Run


def write_evaluation(
    run: Run, out: Path, metrics: Mapping[str, Any], sections: Sequence[Section], subtitle: str
) -> None:
    """Write `metrics.json` and `report.html` to a folder, which is made if need be, and say where."""
    write_text(out / "metrics.json", json.dumps(metrics, indent=2))
    write_report(out / "report.html", run.name, sections, subtitle)
    print(f"Report: {out / 'report.html'}")
