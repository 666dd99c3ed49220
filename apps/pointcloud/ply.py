"""PLY files of points, read and written a piece at a time.

Source: Turk 1994, "The PLY Polygon File Format". Only the element `vertex` is read, which must come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from apps.common.errors import UserError

TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
WRITTEN = {"f4": "f8"}
"""What text may tell more finely than its header says."""
NAMES = {
    "i1": "char",
    "u1": "uchar",
    "i2": "short",
    "u2": "ushort",
    "i4": "int",
    "f4": "float",
    "f8": "double",
}
LONGEST = 1 << 16
"""Bytes of a header."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself: order of bytes, or "" for text; points; their fields; where they begin."""

    order: Literal["<", ">", ""]
    points: int
    fields: list[tuple[str, str]]
    begin: int

    @property
    def record(self) -> np.dtype:
        """One point."""
        return np.dtype([(name, (self.order or "<") + kind) for name, kind in self.fields])


def read_header(path: Path) -> Header:
    """Raises UserError for what is no PLY file, or whose points have lists or come late."""
    with path.open("rb") as file:
        head = file.read(LONGEST)
    end = head.find(b"end_header")
    begin = head.find(b"\n", end) + 1
    if not head.startswith(b"ply") or end < 0 or not begin:
        raise UserError(f"{path} is no PLY file: it has no header. Write it again.")
    order: Literal["<", ">", ""] = ""
    points, fields, element = 0, [], ""
    for line in head[:end].decode("ascii", "replace").splitlines():
        match line.split():
            case ["format", kind, *_]:
                order = "<" if "little" in kind else ">" if "big" in kind else ""
            case ["element", name, number]:
                if not element and name != "vertex":
                    raise UserError(f"{path}: {name} comes before the points: write the points first.")
                element = name
                points = _number(path, number) if name == "vertex" else points
            case ["property", "list", *_] if element == "vertex":
                raise UserError(f"{path}: a list stands in each point: write points of single values.")
            case ["property", kind, name] if element == "vertex":
                if kind not in TYPES:
                    raise UserError(f"{path}: values of type {kind} are not known: write it again.")
                fields.append((name, TYPES[kind]))
    names = [name for name, _ in fields]
    if len(set(names)) < len(names) or not names:
        raise UserError(f"{path}: its header names fields of points twice, or none: write it again.")
    return Header(order, points, fields, begin)


def _number(path: Path, said: str) -> int:
    if not said.isdecimal():
        raise UserError(f"{path}: its header says {said!r} for the number of points: write it again.")
    return int(said)


def pieces(path: Path, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Fields of up to `size` points at a time, by name. Raises UserError where points are missing."""
    header = read_header(path)
    if header.order:
        have = (path.stat().st_size - header.begin) // header.record.itemsize
        if have < header.points:
            raise UserError(_cut(path, have, header.points))
        if not header.points:
            return
        table = np.memmap(path, header.record, "r", header.begin, (header.points,))
        for start in range(0, header.points, size):
            part = table[start : start + size]
            yield {name: np.array(part[name]) for name, _ in header.fields}
        return
    with path.open("rb") as file:
        file.seek(header.begin)
        for start in range(0, header.points, size):
            wanted = min(size, header.points - start)
            lines = list(islice(file, wanted))
            try:
                values = np.loadtxt(lines, ndmin=2, usecols=range(len(header.fields)))
            except ValueError as error:
                raise UserError(f"{path}: behind point {start} a line is no point ({error}).") from error
            if len(values) < wanted:
                raise UserError(_cut(path, start + len(values), header.points))
            kinds = [(name, WRITTEN.get(kind, kind)) for name, kind in header.fields]
            yield {name: values[:, i].astype(kind) for i, (name, kind) in enumerate(kinds)}


class Writer:
    """A PLY file of a known number of points, filled at any place.

    Args:
        path: of it.
        points: N.
        kinds: numpy type of each field, by name, such as "f8" of x.
        comments: lines of the header.
    """

    def __init__(
        self, path: Path, points: int, kinds: Mapping[str, str], comments: Sequence[str] = ()
    ) -> None:
        lines = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments)]
        lines.append(f"element vertex {points}")
        lines += [f"property {NAMES[kind]} {name}" for name, kind in kinds.items()]
        path.write_bytes("\n".join([*lines, "end_header", ""]).encode("utf-8"))
        record = np.dtype([(name, "<" + kind) for name, kind in kinds.items()])
        with path.open("r+b") as file:
            begin = file.seek(0, 2)
            file.truncate(begin + points * record.itemsize)
        self._table = np.memmap(path, record, "r+", begin, (points,)) if points else np.empty(0, record)

    def put(self, rows: np.ndarray | slice, values: Mapping[str, np.ndarray]) -> None:
        """Write fields of some points."""
        for name, value in values.items():
            self._table[name][rows] = value

    def close(self) -> None:
        """See that all of it is on the disk."""
        if isinstance(self._table, np.memmap):
            self._table.flush()


def _cut(path: Path, have: int, wanted: int) -> str:
    return f"{path} ends after {have:,} of {wanted:,} points: copy it again."
