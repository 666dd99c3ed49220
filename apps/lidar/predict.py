"""Depth and lifetime of a user's own histograms, pixel by pixel, and how far to trust them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from torch import Tensor

from apps.common.errors import UserError
from apps.common.files import check_out, replacing
from apps.common.runs import find_run
from apps.common.trained import task_of
from apps.lidar.cloud import check_cloud, write_cloud
from apps.lidar.data import APP, Data
from apps.lidar.files import Cube, read_cube, read_response, rebinned
from apps.lidar.flags import doubtful, unusable, within
from apps.lidar.instrument import TO_DEVIATION, gaussian, measured
from apps.lidar.model import Estimate, Reading
from apps.lidar.readings import reading
from apps.lidar.task import Task

CHUNK = 8192
UNLIKE = 0.1
"""Share of a response that may lie elsewhere than in one of training."""
UNITS = {"depth": "mm", "lifetime": "ns"}


def predict(
    input: Path,
    out: Path = Path("predictions.csv"),
    run: Path | None = None,
    irf: Path | None = None,
    width: float | None = None,
    bin_width: float | None = None,
    flash: float | None = None,
    scattering: float | None = None,
    absorption: float | None = None,
    saturation: float | None = None,
    cloud: Path | None = None,
    pitch: float = 1.0,
) -> None:
    """Write depth, lifetime, their quality and expected error, and a flag, for every histogram of a file.

    Args:
        input: .npz or .h5 with an array `counts`, (N, bins) or an image (height, width, bins), and perhaps
            `bin_width`, `scattering` and `absorption`; or a table with one row a histogram.
        out: .csv with one row a histogram, or .npz with a map of each.
        run: a folder runs/lidar/<config>/<n>; the newest by default.
        irf: table of the instrument's response, time in ns on the clock of the histograms and counts; its
            centre is taken as the flash. A run that was trained on a measured response has its own.
        width: full width at half maximum of a Gaussian response in ns, where there is no table.
        bin_width: of the histograms, ns; the run's by default.
        flash: when light that takes no time arrives, ns after the first bin begins; the run's by default.
        scattering: reduced scattering of the tissue, 1/mm, for a run of known tissue.
        absorption: absorption of the tissue, 1/mm, likewise.
        saturation: counts of a bin at which the detector is full; of integers the greatest by default.
        cloud: .ply to write the points of an image to, which needs open3d.
        pitch: of the image there, mm from pixel to pixel.
    """
    check_out(out, input, (".csv", ".npz"))
    found = find_run(APP, run)
    task, checkpoint = task_of(found, Task)
    data = Data.from_state(checkpoint["Data"])
    cube = read_cube(input)
    if cloud is not None:
        check_cloud(cloud)
        if len(cube.shape) != 2:
            raise UserError(f"{input} holds no image (height, width, bins), so there is no cloud to write.")
    response, at = _response(data, irf, width)
    step = next(width for width in (bin_width, cube.width, data.clock.width) if width is not None)
    moment = at if at is not None else flash if flash is not None else data.clock.flash
    _check_bins(cube, data, step, bin_width)
    tissue = _tissue(cube, data, scattering, absorption)
    usual = _usual(data, response, tissue)
    full = saturation if saturation is not None else _fullest(cube)
    parts = []
    total = -(-int(np.prod(cube.shape)) // CHUNK)
    for rows, counts in track(cube.rows(CHUNK), "Histograms", total=total, transient=True):
        parts.append(_estimate(task, data, counts, (step, moment), response, tissue, rows, full, usual))
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    _write(table, cube.shape, out)
    if cloud is not None and np.isfinite(table["depth_mm"]).any():
        error = table.get("depth_error_mm", np.zeros(len(table["depth_mm"])))  # of a network without critics
        write_cloud(cloud, table["depth_mm"].reshape(cube.shape), error.reshape(cube.shape), pitch)
    bad = table["flag"] != ""
    print(f"{len(bad)} histograms, {int(bad.sum())} flagged, by {found.path}: {out}")


def _response(data: Data, irf: Path | None, width: float | None) -> tuple[Tensor, float | None]:
    """Spectrum (F,) of the response, and when its flash comes on the histograms' clock, if it tells."""
    own = data.rig.response
    if (irf is not None and width is not None) or (irf is None and width is None and own is None):
        raise UserError(
            "say how the instrument answers a flash: --irf irf.csv, or --width 0.2 for a Gaussian in ns."
        )
    if width is not None:
        if not 0 < width < data.clock.bins * data.clock.width / 2:
            raise UserError(f"--width {width} ns is no width of a response: give one below half the window.")
        return gaussian(torch.tensor([width], dtype=torch.float64), data.clock.omega)[0], None
    response = own if irf is None else read_response(irf, data.clock)
    assert response is not None
    return measured(response, data.clock)


def _check_bins(cube: Cube, data: Data, step: float, said: float | None) -> None:
    if not step > 0:
        raise UserError(f"{cube.source}: bins of {step} ns are none: say how wide they are, --bin_width.")
    if said and cube.width and abs(said - cube.width) > 1e-6:
        raise UserError(
            f"{cube.source} says bins of {cube.width} ns and --bin_width {said}: keep the right one."
        )
    bins, clock = cube.counts.shape[-1], data.clock
    if abs(step - clock.width) < 1e-9 and bins != clock.bins:
        raise UserError(
            f"{cube.source} has {bins} bins and the run was trained on {clock.bins} of {clock.width} ns: say "
            "how wide yours are, --bin_width, or train with --data.bins."
        )


def _tissue(cube: Cube, data: Data, scattering: float | None, absorption: float | None) -> Tensor | None:
    """Known tissue (N, 2) in units of its ranges, (1, 2) where it is one for all; None where not known."""
    given = [scattering, absorption]
    if not data.known_tissue:
        if cube.tissue is None and given == [None, None]:
            return None
        raise UserError("this run was trained for unknown tissue: leave scattering and absorption out.")
    if given == [None, None] and cube.tissue is not None:
        pair = [torch.from_numpy(np.asarray(values, dtype=float)) for values in cube.tissue]
    elif None in given:
        raise UserError(
            "this run was trained for known tissue: say --scattering and --absorption, or train with "
            "--data.known_tissue false."
        )
    else:
        pair = [torch.tensor([value], dtype=torch.float64) for value in given]
    if not all(bool((values > 0).all()) for values in pair):
        raise UserError(
            f"{cube.source}: scattering and absorption must be positive, in 1/mm, for every pixel."
        )
    return data.scale.tissue(*pair)


def _usual(data: Data, response: Tensor, tissue: Tensor | None) -> bool:
    """Whether response and tissue are like those of training; where not, say so."""
    curve, at = data.clock.curve(response), data.clock.centres
    centre = (curve @ at) / curve.sum()
    spread = ((curve @ (at - centre).square()) / curve.sum()).clamp(min=0).sqrt() / TO_DEVIATION
    trained = data.clock.curve(data.rig.answer(spread[None]))[0]
    unlike = float((curve - trained).abs().sum() / 2)
    notes = []
    if unlike > UNLIKE:
        notes.append(
            f"{unlike:.0%} of the response lies elsewhere than in training, so train on it: --data.irf"
        )
    elif data.rig.response is None and not within(spread[None].numpy(), data.scale.response):
        low, high = data.scale.response
        notes.append(f"the response is as wide as a Gaussian of {spread:.3g} ns, in training {low} to {high}")
    if tissue is not None and not within(tissue.numpy(), (-0.1, 1.1)):
        notes.append("the tissue lies beyond the ranges of training")
    for note in notes:
        print(f"note: {note}; estimates may be wrong and are flagged.")
    return not notes


def _fullest(cube: Cube) -> float:
    kind = cube.counts.dtype
    return float(np.iinfo(kind).max) if np.issubdtype(kind, np.integer) else np.inf


@torch.no_grad()
def _estimate(
    task: Task,
    data: Data,
    counts: np.ndarray,
    clock: tuple[float, float],
    response: Tensor,
    tissue: Tensor | None,
    rows: slice,
    full: float,
    usual: bool,
) -> dict[str, np.ndarray]:
    """What is written of some histograms (n, T)."""
    flag = unusable(counts, full)
    bad = flag != ""
    usable = torch.from_numpy(np.where(bad[:, None], 0, counts).astype(np.float32))
    binned = rebinned(usable, *clock, data.clock)
    curve = data.clock.curve(response).float().expand(len(binned), -1)
    known = tissue[rows] if tissue is not None and len(tissue) > 1 else tissue
    made: Reading = reading(binned, curve, None if known is None else known.expand(len(binned), -1))
    said = task.network(made)
    value = said.value if isinstance(said, Estimate) else said
    physical = {name: values.numpy() for name, values in data.scale.physical(value).items()}
    found: dict[str, np.ndarray] = {}
    for place, (name, values) in enumerate(physical.items()):
        low, high = getattr(data.scale, name)
        found[f"{name}_{UNITS[name]}"] = values
        if isinstance(said, Estimate):
            found[f"{name}_quality"] = said.quality[:, place].numpy()
            found[f"{name}_error_{UNITS[name]}"] = said.error[:, place].numpy() * (high - low)
    seen, there = binned.sum(1).numpy(), usable.sum(1).numpy()
    flag = np.where(bad, flag, doubtful(seen, there, physical, data.scale, usual))
    found = {name: np.where(bad, np.nan, values) for name, values in found.items()}
    return found | {"photons": np.where(bad, np.nan, there), "flag": flag}


def _write(table: dict[str, np.ndarray], shape: tuple[int, ...], out: Path) -> None:
    with replacing(out) as temporary:
        if out.suffix == ".npz":
            with temporary.open("wb") as file:
                maps = {name: column.reshape(shape) for name, column in table.items()}
                np.savez_compressed(file, **maps)  # type: ignore[arg-type]
            return
        places = {} if len(shape) == 1 else dict(zip(("row", "column"), np.indices(shape), strict=False))
        frame = pd.DataFrame({name: place.ravel() for name, place in places.items()} | table)
        frame.to_csv(temporary, index=False, float_format="%.6g")
