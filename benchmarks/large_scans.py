"""Time and memory of labelling large files: `python -m benchmarks.large_scans`.

A model must have been trained before, `make train APP=pointcloud`. LAZ files of simulated towns side by
side, of two sizes, go through the command `predict`, each in a process of its own on one thread. What counts
is wall time, reading and writing included, and peak memory beyond what the process has before it.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jsonargparse import auto_cli

from apps.common import markdown
from apps.common.compare.places import results_folder
from apps.common.compare.results import write_results
from apps.common.compare.schema import Results
from apps.common.discovery import project_root
from apps.common.runs import find_run
from apps.pointcloud.data import APP
from apps.pointcloud.predict import predict
from apps.pointcloud.simulate import simulate
from benchmarks.memory import in_own_process, peak_of
from benchmarks.results import Page, results, row

RESULTS = results_folder() / "large_scans.json"
SIZES = (10**6, 10**7)
TOWNS = 8
"""Different ones; further ones repeat them."""
EDGE = 100.0
"""From a town to the next, metres."""
SIDE = 20
"""Towns of a row."""


def main(run: Path | None = None, sizes: Sequence[int] = SIZES) -> None:
    """Measure; write docs/results/large_scans.json and the table of apps/pointcloud/README.md.

    Args:
        run: a folder runs/pointcloud/<config>/<n>; the newest by default.
        sizes: Points of each file.
    """
    path, rows = find_run(APP, run).path, []
    with TemporaryDirectory() as folder:
        for points in sizes:
            scan = Path(folder) / f"{points}.laz"
            write_towns(scan, points)
            begin = time.perf_counter()
            memory = in_own_process(megabytes, path, scan)
            seconds = time.perf_counter() - begin
            rows.append(row(str(points), "predict", "seconds", seconds, peak_memory_mb=memory))
    write_results(RESULTS, results("large_scans", "python -m benchmarks.large_scans", rows, {}))
    PAGE.refresh()


def write_towns(path: Path, points: int) -> None:
    """A LAZ file of so many points: towns in rows of twenty."""
    import laspy

    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales = np.full(3, 0.001)
    with laspy.open(path, "w", header=header) as file:
        written, number = 0, 0
        while written < points:
            town = simulate("towns", number % TOWNS)
            town = town.take(np.arange(min(len(town), points - written)))
            assert town.intensity is not None
            assert town.echo is not None
            record = laspy.ScaleAwarePointRecord.zeros(len(town), header=header)
            record.x, record.y, record.z = (town.xyz + np.array([*divmod(number, SIDE), 0]) * EDGE).T
            record.intensity = (town.intensity * 60_000).astype(np.uint16)
            record.return_number, record.number_of_returns = town.echo.T
            file.write_points(record)
            written, number = written + len(town), number + 1


def megabytes(run: Path, scan: Path) -> float:
    """Peak memory of labelling a file."""
    return peak_of(lambda: predict(scan, scan.with_suffix(".ply"), run))


def tables(measured: Results) -> str:
    """Time and memory by size."""
    body = [
        [
            f"{int(each['data']):,}",
            f"{each['value']:,.0f}",
            f"{int(each['data']) / each['value']:,.0f}",
            "-" if each["peak_memory_mb"] is None else f"{each['peak_memory_mb']:,.0f}",
        ]
        for each in measured["rows"]
    ]
    told = measured["environment"]
    return (
        f"{markdown.table(['points of the file', 'seconds', 'points/s', 'peak, MB'], body)}\n\n"
        f"{told['cpu']}, one thread, torch {told['torch']}, commit `{measured['commit'][:10]}`, "
        f"`{measured['command']}`."
    )


PAGE = Page(project_root() / "apps" / "pointcloud" / "README.md", "bench:large_scans", RESULTS, tables)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
