"""Scans of users: PLY, PCD, LAS and LAZ, KITTI's .bin beside .label, and npz, a piece at a time.

Whatever the format, what is read of a point is `xyz`, and where a file has it `intensity` and `colour` (as
they stand there), `echo`, and `code`, the class that the file gives it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from zipfile import BadZipFile

import numpy as np

from apps.common.errors import UserError
from apps.pointcloud import ply

PIECE = 1_000_000
"""Points that are read at a time."""
CODES = ("label", "class", "classification", "scalar_Classification", "scalar_label", "semantic")
"""Fields that hold the class of a point."""
KNOWN = (*"xyzrgb", "label", "intensity", "return_number", "number_of_returns")
"""Arrays of an npz file, once those of several columns are taken apart."""
PACKED = {"r": 16, "g": 8, "b": 0}
"""Where the colours of a PCD file lie in one number."""
COARSE = 0.1
"""Steps of coordinates, metres, that are too wide to tell shapes by."""
FAULTS = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(struct.error, BadZipFile),
)
"""What readers raise where a file is not what its ending says."""
Piece = dict[str, np.ndarray]


def pieces(path: Path, size: int = PIECE) -> Iterator[Piece]:
    """Read a file.

    Args:
        path: of it; the ending tells the format.
        size: points at a time.

    Raises:
        UserError: a file that is absent, of another format, damaged, or without coordinates.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file: check the path.")
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path}: cannot tell the format: use one of {', '.join(READERS)}.")
    try:
        yield from read(path, size)
    except FAULTS as error:
        why = shorten(" ".join(str(error).split()), 160)
        raise UserError(
            f"{path} is damaged or no {path.suffix[1:].upper()} file ({why}): copy or write it again."
        ) from error


def named(path: Path, fields: Mapping[str, np.ndarray]) -> Piece:
    """Fields of a table of points as what they mean.

    Raises UserError where x, y or z is missing, or stored too coarsely.
    """
    names = {name.lower(): name for name in fields}
    missing = [axis for axis in "xyz" if axis not in names]
    if missing:
        raise UserError(f"{path} has no field {missing[0]}: its fields are {', '.join(fields) or 'none'}.")
    axes = [np.asarray(fields[names[axis]]) for axis in "xyz"]
    found = {"xyz": np.stack([axis.astype(np.float64) for axis in axes], 1)}
    _check_steps(path, axes)
    for wanted, said in (("intensity", ("intensity", "scalar_intensity", "reflectance")), ("code", CODES)):
        have = [names[name.lower()] for name in said if name.lower() in names]
        if have:
            found[wanted] = np.asarray(fields[have[0]])
    for triple in (("red", "green", "blue"), ("r", "g", "b")):
        if all(name in names for name in triple):
            found["colour"] = np.stack([fields[names[name]] for name in triple], 1)
    pair = ("return_number", "number_of_returns")
    if all(name in names for name in pair):
        found["echo"] = np.stack([fields[names[name]] for name in pair], 1).astype(np.uint8)
    return found


def _check_steps(path: Path, axes: Iterable[np.ndarray]) -> None:
    for values in axes:
        if values.dtype.kind == "f" and values.dtype.itemsize <= 4 and len(values):
            most = np.abs(values[np.isfinite(values)]).max(initial=0)
            step = float(np.spacing(most.astype(values.dtype.newbyteorder("="))))
            if step > COARSE:
                raise UserError(
                    f"{path}: coordinates as large as these, in 32 bits, are known to {step:.2g} m only: "
                    "write them in 64 bits, or less an offset."
                )


def _ply(path: Path, size: int) -> Iterator[Piece]:
    return (named(path, fields) for fields in ply.pieces(path, size))


def _pcd(path: Path, size: int) -> Iterator[Piece]:
    from pypcd4.pypcd4 import PointCloud

    cloud = PointCloud.from_path(path)
    fields = {name: np.asarray(cloud.pc_data[name]) for name in cloud.fields}
    for name in {"rgb", "rgba"} & set(fields):
        packed = fields.pop(name).view(np.uint32)
        fields |= {name: ((packed >> shift) & 255).astype(np.uint8) for name, shift in PACKED.items()}
    for start in range(0, len(next(iter(fields.values()))), size):
        yield named(path, {name: value[start : start + size] for name, value in fields.items()})


def _las(path: Path, size: int) -> Iterator[Piece]:
    import laspy
    from laspy.errors import LaspyException

    try:
        with laspy.open(path) as file:
            have, wanted = 0, file.header.point_count
            for points in file.chunk_iterator(size):
                have += len(points)
                yield _las_piece(path, points)
    except LaspyException as error:
        raise ValueError(error) from error
    if have < wanted:
        raise UserError(f"{path} ends after {have:,} of {wanted:,} points: copy it again.")


def _las_piece(path: Path, points: object) -> Piece:
    names = {
        "x": "x",
        "y": "y",
        "z": "z",
        "intensity": "intensity",
        "return_number": "return_number",
        "number_of_returns": "number_of_returns",
        "classification": "classification",
        "red": "red",
        "green": "green",
        "blue": "blue",
    }
    fields = {name: np.asarray(getattr(points, own)) for name, own in names.items() if hasattr(points, own)}
    return named(path, fields)


def _kitti(path: Path, size: int) -> Iterator[Piece]:
    """Four float32 a point; labels beside it, or in `labels` beside its folder `velodyne`."""
    if path.stat().st_size % 16:
        raise UserError(f"{path}: {path.stat().st_size} bytes are no whole points of 16: copy it again.")
    points = np.memmap(path, "<f4", "r").reshape(-1, 4) if path.stat().st_size else np.empty((0, 4), "f4")
    beside = (path.with_suffix(".label"), path.parent.parent / "labels" / f"{path.stem}.label")
    labels = next((np.fromfile(name, "<u4") & 0xFFFF for name in beside if name.is_file()), None)
    if labels is not None and len(labels) != len(points):
        raise UserError(f"{path} has {len(points):,} points and {len(labels):,} labels: copy both again.")
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        _check_steps(path, points[rows, :3].T)
        piece = {"xyz": points[rows, :3].astype(np.float64), "intensity": points[rows, 3].copy()}
        yield piece if labels is None else piece | {"code": labels[rows]}


def _npz(path: Path, size: int) -> Iterator[Piece]:
    """`xyz`, or `x`, `y` and `z`; `label`, `intensity`, `rgb` or `colour`, `return_number` with how many."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    if "xyz" in arrays:
        xyz = arrays.pop("xyz")
        if xyz.ndim != 2 or xyz.shape[1] != 3:
            raise UserError(f"{path}: xyz has the shape {list(xyz.shape)}, and a point three coordinates.")
        if "offset" in arrays:
            xyz = xyz + arrays.pop("offset").astype(np.float64)
        arrays |= dict(zip("xyz", xyz.T, strict=True))
    for name in ("rgb", "colour", "color"):
        if name in arrays and arrays[name].ndim == 2:
            arrays |= dict(zip("rgb", arrays.pop(name).T, strict=False))
    arrays = {name: value for name, value in arrays.items() if name in KNOWN}
    number = arrays["x"].size if "x" in arrays else 1
    for name, value in arrays.items():
        if value.shape != (number,):
            raise UserError(f"{path}: {name} has the shape {list(value.shape)}, for {number:,} points.")
    for start in range(0, max(number, 1), size):
        yield named(path, {name: value[start : start + size] for name, value in arrays.items()})


READERS: dict[str, Callable[[Path, int], Iterator[Piece]]] = {
    ".ply": _ply,
    ".pcd": _pcd,
    ".las": _las,
    ".laz": _las,
    ".bin": _kitti,
    ".npz": _npz,
}
