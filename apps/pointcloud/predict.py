"""The class of every point of a user's own scan, of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn

from apps.common.console import print_rows
from apps.common.errors import UserError
from apps.common.files import check_out, replacing
from apps.common.runs import find_run
from apps.common.trained import task_of
from apps.pointcloud.blocks import Blocks, Store
from apps.pointcloud.colours import colours
from apps.pointcloud.data import APP
from apps.pointcloud.features import scan_of
from apps.pointcloud.files import Piece, pieces
from apps.pointcloud.grid import GROUND, fitting, side_of
from apps.pointcloud.ply import Writer
from apps.pointcloud.task import Task
from apps.pointcloud.tiles import chances

BLOCK = 300_000
"""Points of a block."""
REACH = 2 * GROUND
"""Cells around a block that its features hang on."""
SAMPLED = 9
"""Blocks by which density is told."""
FIELDS = {"x": "f8", "y": "f8", "z": "f8", "red": "u1", "green": "u1", "blue": "u1", "confidence": "f4"}


def predict(
    input: Path,
    out: Path = Path("predictions.ply"),
    run: Path | None = None,
    domain: str | None = None,
    side: float | None = None,
) -> None:
    """Write the points of a scan with class, colour and confidence, in the order of the file.

    The scan is gone through block by block: memory does not grow with it.

    Args:
        input: a .ply, .pcd, .las, .laz, .bin (KITTI) or .npz; metres.
        out: .ply to write.
        run: a folder runs/pointcloud/<config>/<n>; the newest by default.
        domain: of the run, whose classes are to be told; by default those of all.
        side: of a cell, metres; by default as dense as the scan is.
    """
    check_out(out, input, (".ply",))
    found = find_run(APP, run)
    task, checkpoint = task_of(found, Task)
    state = checkpoint["Data"]
    names: list[str] = state["classes"]
    own, classes = _classes(state, domain, task.network.told_domain)
    if domain is None and len(state["domains"]) > 1:
        print(f"note: classes of {', '.join(state['domains'])} are told; --domain keeps to those of one.")
    with TemporaryDirectory(prefix=".points-", dir=out.resolve().parent) as folder:
        store = Store(Path(folder), _counted(pieces(input)), str(input))
        blocks = Blocks(store, Path(folder), BLOCK)
        wide = _side(store, blocks, state["side"] if side is None else side)
        counts = np.zeros(len(names), dtype=np.int64)
        with replacing(out) as temporary:
            comments = [f"class {number} {name}" for number, name in enumerate(names)]
            kinds = FIELDS | {"label": "u1" if len(names) <= 256 else "u2"}
            writer = Writer(temporary, store.points, kinds, comments)
            with Progress(transient=True) as progress:
                bar = progress.add_task("Points", total=store.points)
                for number in range(len(blocks)):
                    block = blocks.block(number, REACH * wide)
                    scan = scan_of(store.cloud(block.around), domain=own, side=wide)
                    tick = partial(_advance, progress, bar, len(block.rows) / len(scan))
                    chance = chances(task.network, scan, classes, state["points"], tick)
                    chance = chance[scan.of_point[: len(block.rows)]]
                    label, sure = chance.argmax(1), chance.max(1)
                    _write(writer, store, block.rows, label, sure, names)
                    counts += np.bincount(label, minlength=len(names))
            writer.close()
    rows = [
        {
            "class": names[c],
            "points": int(counts[c]),
            "share": counts[c] / store.points,
            "colour": _hex(names, c),
        }
        for c in np.argsort(-counts)
        if counts[c]
    ]
    print_rows(rows, f"{store.points:,} points in cells of {wide:.3g} m, by {found.path}: {out}")


def _counted(parts: Iterable[Piece]) -> Iterator[Piece]:
    """Show how many points have been read."""
    with Progress(
        TextColumn("Read {task.completed:,.0f} points"), SpinnerColumn(), transient=True
    ) as progress:
        bar = progress.add_task("", total=None)
        for part in parts:
            yield part
            progress.advance(bar, len(part["xyz"]))


def _advance(progress: Progress, bar: TaskID, share: float, cells: int) -> None:
    progress.advance(bar, share * cells)


def _side(store: Store, blocks: Blocks, wanted: float | None) -> float:
    """The side of a cell that is wanted, or the median of what some blocks ask for."""
    numbers = np.unique(np.linspace(0, len(blocks) - 1, SAMPLED).astype(int))
    own = float(np.median([side_of(store.where(blocks.rows(number))) for number in numbers]))
    return fitting(wanted, own, store.what)


def _classes(
    state: dict[str, dict[str, list[str]]], domain: str | None, is_told: bool
) -> tuple[int, np.ndarray]:
    """The number of the domain, and (D, C) those of its classes, or of all."""
    names, domains = list(state["classes"]), state["domains"]
    if domain is not None and domain not in domains:
        raise UserError(f"--domain: the run has no domain {domain!r}: name one of {', '.join(domains)}.")
    if domain is None and is_told:
        raise UserError(f"the run's norms are told the domain: say --domain, one of {', '.join(domains)}.")
    wanted = domains[domain] if domain else [name for own in domains.values() for name in own]
    number = list(domains).index(domain) if domain else 0
    return number, np.tile(np.isin(names, wanted), (len(domains), 1))


def _write(
    writer: Writer, store: Store, rows: np.ndarray, label: np.ndarray, sure: np.ndarray, names: list[str]
) -> None:
    where, colour = store.where(rows), colours(names)[label]
    values = dict(zip("xyz", where.T, strict=True))
    values |= dict(zip(("red", "green", "blue"), colour.T, strict=True))
    writer.put(rows, values | {"label": label, "confidence": sure})


def _hex(names: list[str], number: int) -> str:
    return "#" + "".join(f"{part:02x}" for part in colours(names)[number])
