"""`python -m apps.common.measure <app>/<config>`: train a config, enter what it took in configs/README.md."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from collegium import inspection

from apps.common.contract import build
from apps.common.discovery import app_names, project_root, training_configs
from apps.common.errors import UserError
from apps.common.files import write_text
from apps.common.runs import Run
from apps.common.trained import task_of

HEAD = (
    "config",
    "what it is",
    "active / total parameters",
    "best val/loss",
    "minutes",
    "peak memory",
    "cores",
)


class Measured(NamedTuple):
    """What a training made and took: parameters (active, all), best validation loss, wall time, peak resident
    memory, processors."""

    parameters: tuple[int, int]
    loss: float
    minutes: float
    megabytes: float
    cores: int


def measure(names: list[str]) -> None:
    """Train the configs named `<app>/<config>`, one after the other, and update the table of all configs."""
    page = project_root() / "configs" / "README.md"
    known = {f"{app}/{path.stem}": path for app in app_names() for path in training_configs(app)}
    for name in names:
        if name not in known:
            raise UserError(f"there is no config {name}: choose one of {', '.join(known)}.")
        row = _cells(known[name], _train(known[name]))
        write_text(page, with_rows(page.read_text(encoding="utf-8"), {name: row}, list(known)))


def with_rows(page: str, rows: Mapping[str, tuple[str, ...]], order: list[str]) -> str:
    """Return a page with these rows in its one table; of the rows there were, those named in `order` stay."""
    above, table, below = _parts(page)
    kept = {cells[0].strip("`"): cells[1:] for cells in table} | dict(rows)
    lines = [_line(HEAD), _line(("---",) * len(HEAD))]
    lines += [_line((f"`{name}`", *kept[name])) for name in order if name in kept]
    return "\n".join([*above, *lines, *below])


def _parts(page: str) -> tuple[list[str], list[tuple[str, ...]], list[str]]:
    """Split a page into the lines above its table, the cells of the rows, and the lines below."""
    lines = page.split("\n")
    inside = [i for i, line in enumerate(lines) if line.startswith("|")]
    first, last = (inside[0], inside[-1] + 1) if inside else (len(lines), len(lines))
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[first:last]]
    return lines[:first], rows[2:], lines[last:]


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(config: Path, measured: Measured) -> tuple[str, ...]:
    active, total = measured.parameters
    what = config.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").rstrip(".")
    cost = (f"{measured.minutes:.1f}", f"{measured.megabytes:.0f} MB", str(measured.cores))
    return (what, f"{active:,} / {total:,}", f"{measured.loss:.4f}", *cost)


def _train(config: Path) -> Measured:
    """Train in a process of its own, in a folder that is thrown away."""
    app = config.parent.name
    command = [sys.executable, "-m", "apps", app, "fit", "--config", str(config)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=project_root(), env=os.environ | {"COLLEGIUM_RUNS": folder})
        _, status, usage = os.wait4(process.pid, 0)
        minutes = (time.perf_counter() - start) / 60
        if status:
            raise UserError(f"{config} could not be trained: see the message above.")
        run = Run(Path(folder, app, config.stem, "1"), app)
        loss = float(pd.read_csv(run.metrics_file)["val/loss"].min())
        task, _ = task_of(run, type(build(app, config).model))  # some networks are built for their data
        parameters = inspection.parameters(task.network)
    kilobyte = 1024 if sys.platform == "darwin" else 1
    return Measured(parameters, loss, minutes, usage.ru_maxrss / kilobyte / 1024, os.cpu_count() or 1)


if __name__ == "__main__":
    try:
        measure(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
