"""Users' files: cubes of histograms, and responses of instruments."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from apps.common.errors import UserError
from apps.common.frames import SUFFIXES, read_frame
from apps.lidar.instrument import UNEVEN, Clock, Response, measured

ENDINGS = (".npz", ".h5", ".hdf5", *SUFFIXES)
COUNTS, TISSUE = "counts", ("scattering", "absorption")


@dataclass
class Cube:
    """Histograms of a file, (..., T): of one axis more for each axis of an image.

    Attributes:
        counts: array-like of shape (..., T); of an HDF5 file it is read as it is sliced.
        source: the file, for messages.
        width: of a bin in ns, where the file says so.
        tissue: scattering and absorption (...) where the file has both.
    """

    counts: Any
    source: str
    width: float | None = None
    tissue: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """That of an image, or (N,)."""
        return tuple(self.counts.shape[:-1])

    def parts(self, most: int) -> list[tuple[int | slice, ...]]:
        """Where to cut the pixels, in order, so that no part has more than `most` of them."""
        return list(_cuts(self.shape, most))

    def rows(self, parts: list[tuple[int | slice, ...]]) -> Iterator[tuple[slice, np.ndarray]]:
        """Go through the parts: which pixels they are, and their counts (n, T)."""
        begin = 0
        for part in parts:
            try:
                counts = np.asarray(self.counts[part])
            except OSError as error:
                raise UserError(f"{self.source}: the file is damaged: copy it again.") from error
            counts = counts.reshape(-1, counts.shape[-1])
            yield slice(begin, begin + len(counts)), counts
            begin += len(counts)


def read_cube(path: Path) -> Cube:
    """Open histograms. Raises UserError where a file is absent, damaged, or holds none."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file: check the path.")
    if not path.name.lower().endswith(ENDINGS):
        raise UserError(f"{path}: cannot tell the format: use one of {', '.join(ENDINGS)}.")
    arrays = path.suffix.lower() in (".npz", ".h5", ".hdf5")
    cube = _read_arrays(path) if arrays else _read_table(path)
    if cube.counts.ndim not in (2, 3) or 0 in cube.counts.shape:
        raise UserError(
            f"{path}: {COUNTS} has the shape {tuple(cube.counts.shape)}: give histograms (N, bins) or an "
            "image of them (height, width, bins)."
        )
    whole = cube.shape, (math.prod(cube.shape),)
    for name, values in zip(TISSUE, cube.tissue or (), strict=False):
        if values.size > 1 and values.shape not in whole:
            raise UserError(
                f"{path}: {name} has the shape {values.shape} and the histograms {cube.shape}: give one "
                "number, or one for each histogram in the same shape."
            )
    return cube


def read_response(path: Path, clock: Clock) -> Response:
    """An instrument's response, for histograms on a clock. Raises UserError for anything else."""
    frame = read_frame(path)
    numbers = frame.select_dtypes("number")
    if numbers.shape[1] != 2 or frame.shape[1] != 2 or numbers.isna().any(axis=None):
        raise UserError(f"{path}: give two columns of numbers, time in ns and counts, without blank cells.")
    time, counts = numbers.to_numpy(float).T
    response = tuple(time.tolist()), tuple(counts.tolist())
    try:
        measured(response, clock)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return response


def rebinned(counts: Tensor, width: float, flash: float, clock: Clock) -> Tensor:
    """Counts (B, T) of bins so wide, on a clock; light that takes no time came `flash` ns after they began.

    Counts of a bin that lies on two of the clock are shared out between them.
    """
    if counts.shape[1] == clock.bins and abs(width - clock.width) < 1e-9 and abs(flash - clock.flash) < 1e-9:
        return counts
    so_far = torch.nn.functional.pad(counts.double().cumsum(1), (1, 0))
    edges = (torch.arange(clock.bins + 1).double() * clock.width - clock.flash + flash) / width
    place = edges.clamp(0, counts.shape[1])
    left = place.long().clamp(max=counts.shape[1] - 1)
    at = torch.lerp(so_far[:, left], so_far[:, left + 1], place - left)
    return at.diff(dim=1).float()


def _cuts(shape: tuple[int, ...], most: int) -> Iterator[tuple[int | slice, ...]]:
    first, others = shape[0], shape[1:]
    rest = math.prod(others)
    if rest > most:
        for place in range(first):
            yield from ((place, *cut) for cut in _cuts(others, most))
    else:
        some = max(1, most // max(rest, 1))
        yield from ((slice(begin, begin + some),) for begin in range(0, first, some))


def _read_table(path: Path) -> Cube:
    frame = _with_header(path)
    if frame.columns[0].startswith("Unnamed") and len(frame.columns) > 1:
        raise UserError(f"{path}: the first column has no name, as of an index: write the bins alone.")
    numbers = pd.DataFrame({name: pd.to_numeric(column, errors="coerce") for name, column in frame.items()})
    wrong = numbers.isna() & ~_blank(frame)
    if wrong.any(axis=None):
        column = wrong.columns[wrong.any()][0]
        row = int(wrong[column].argmax()) + 1
        raise UserError(
            f"{path}: row {row} of the column {column!r} holds what is no number: give one row a histogram."
        )
    return Cube(numbers.to_numpy(float), str(path), _step(frame.columns))


def _step(names: pd.Index) -> float | None:
    """Between the times that head the bins, as a width in ns; None of words, and of numbers of bins."""
    times = pd.to_numeric(names.to_series(), errors="coerce").to_numpy(float)
    steps = np.diff(times)
    if len(steps) < 2 or not np.isfinite(steps).all():
        return None
    step = float(steps.mean())
    even = step > 0 and np.abs(steps - step).max() <= UNEVEN * step
    return step if even and not np.allclose(steps, 1) else None


def _with_header(path: Path) -> pd.DataFrame:
    """The rows of a table, whose first line may be names; numbers or times of bins, if they rise to the end,
    as no histogram does; or a histogram."""
    if path.suffix.lower() == ".parquet":
        return read_frame(path)
    frame = read_frame(path, header=False)
    first = frame.iloc[:1]
    numbers = pd.to_numeric(first.iloc[0], errors="coerce").to_numpy(float)
    named = (np.isnan(numbers) & ~_blank(first).to_numpy()[0]).any()
    rises = (np.diff(numbers[~np.isnan(numbers)]) > 0).all()
    return read_frame(path) if named or rises else frame


def _blank(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells that hold nothing, or say that it is no number."""
    words = frame.astype(str).apply(lambda column: column.str.strip().str.lower())
    blank: pd.DataFrame = frame.isna() | words.isin(["", "nan"])
    return blank


def _read_arrays(path: Path) -> Cube:
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path) as file:
                arrays: dict[str, Any] = {name: file[name] for name in file}
        else:
            import h5py

            arrays = dict(h5py.File(path, "r").items())
    except (OSError, ValueError, EOFError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: the file is damaged or of another format: copy it again.") from error
    if COUNTS not in arrays:
        raise UserError(
            f"{path} has no array {COUNTS!r}, but {', '.join(arrays) or 'nothing'}: rename yours."
        )
    kind = getattr(arrays[COUNTS], "dtype", np.dtype(object))
    if not (np.issubdtype(kind, np.integer) or np.issubdtype(kind, np.floating)):
        raise UserError(f"{path}: {COUNTS} holds {kind} and no real numbers: write counts as numbers.")
    known = [_numbers(path, name, arrays[name], gaps=True) for name in TISSUE if name in arrays]
    widths = _numbers(path, "bin_width", arrays.get("bin_width", [])).ravel()
    if len(widths) > 1:
        raise UserError(f"{path}: bin_width holds {len(widths)} numbers: give the one width of all bins, ns.")
    width = float(widths[0]) if len(widths) else None
    return Cube(arrays[COUNTS], str(path), width, (known[0], known[1]) if len(known) == 2 else None)


def _numbers(path: Path, name: str, values: Any, gaps: bool = False) -> np.ndarray:
    """An array of a file as numbers, finite ones unless it may have gaps."""
    try:
        found: np.ndarray = np.asarray(values).astype(float)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {name} holds what is no number: write numbers.") from error
    if not gaps and not np.isfinite(found).all():
        raise UserError(f"{path}: {name} holds what is no finite number: fill it in, or leave it out.")
    return found
