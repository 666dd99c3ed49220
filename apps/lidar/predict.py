"""Depth and lifetime of a user's own histograms, pixel by pixel, and how far to trust them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from apps.common.errors import UserError
from apps.common.files import check_out, replacing
from apps.common.runs import find_run
from apps.lidar.cloud import check_cloud, write_cloud
from apps.lidar.data import APP, Data
from apps.lidar.evaluate import load_run
from apps.lidar.files import Cube, read_cube, rebinned
from apps.lidar.flags import SURELY, doubtful, early, unusable
from apps.lidar.given import Given, given_of
from apps.lidar.misfit import chance
from apps.lidar.model import OUTPUTS, Estimate, Reading
from apps.lidar.readings import reading
from apps.lidar.task import Task

CHUNK = 8192
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
        flash: when light that takes no time arrives, ns after the first bin begins; by default the centre of
            the measured response, or that of the run.
        scattering: reduced scattering of the tissue, 1/mm, for a run of known tissue.
        absorption: absorption of the tissue, 1/mm, likewise.
        saturation: counts of a bin at which the detector is full; of integers the greatest by default.
        cloud: .ply to write the points of an image to, which needs open3d.
        pitch: of the image there, mm from pixel to pixel.
    """
    check_out(out, input, (".csv", ".npz"))
    found = find_run(APP, run)
    task, data = load_run(found)
    cube = read_cube(input)
    if cloud is not None:
        check_cloud(cloud)
        if len(cube.shape) != 2:
            raise UserError(f"{input} holds no image (height, width, bins), so there is no cloud to write.")
    given = given_of(cube, data, irf, width, bin_width, flash, scattering, absorption)
    full = saturation if saturation is not None else _fullest(cube)
    parts = cube.parts(CHUNK)
    tables = [
        _estimate(task, data, counts, given.at(rows), full)
        for rows, counts in track(cube.rows(parts), "Histograms", total=len(parts), transient=True)
    ]
    table = {name: np.concatenate([each[name] for each in tables]) for name in tables[0]}
    _write(table, cube.shape, out)
    if cloud is not None and not np.isfinite(table["depth_mm"]).any():
        print(f"note: no pixel has a depth, so {cloud} is not written.")
    elif cloud is not None:
        error = table.get("depth_error_mm", np.zeros(len(table["depth_mm"])))  # of a network without critics
        write_cloud(cloud, table["depth_mm"].reshape(cube.shape), error.reshape(cube.shape), pitch)
    bad = table["flag"] != ""
    why = ", ".join(f"{n} {flag}" for flag, n in Counter(table["flag"][bad].tolist()).most_common())
    print(f"{len(bad)} histograms, {int(bad.sum())} flagged{why and f' ({why})'}, by {found.path}: {out}")


def _fullest(cube: Cube) -> float:
    kind = cube.counts.dtype
    return float(np.iinfo(kind).max) if np.issubdtype(kind, np.integer) else np.inf


@torch.no_grad()
def _estimate(task: Task, data: Data, counts: np.ndarray, given: Given, full: float) -> dict[str, np.ndarray]:
    """What is written of some histograms (n, T), of which this was given."""
    flag = unusable(counts, full)
    flag = np.where((flag == "") & given.absent, "no tissue", flag)
    bad = flag != ""
    usable = torch.from_numpy(np.where(bad[:, None], 0, counts).astype(np.float32))
    binned = rebinned(usable, *given.bins, data.clock)
    answer = data.clock.curve(given.response).float()
    tissue = None
    if given.tissue is not None:
        tissue = data.scale.tissue(*given.tissue.T).expand(len(binned), -1)
    made: Reading = reading(binned, answer.expand(len(binned), -1), tissue)
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
    lit = early(binned.numpy(), answer.clamp(min=0).numpy(), data.scale)
    unfit = np.zeros(len(bad), dtype=bool)
    if not bad.all() and data.ranges.second_share[1] == 0:  # a second lifetime would have to be known
        rows = torch.from_numpy(~bad).nonzero().squeeze(1)
        about = torch.stack([torch.from_numpy(physical[name])[rows] for name in OUTPUTS], dim=1)
        prior = given.prior(len(bad), data.ranges)[rows]
        bins = usable.shape[1]
        light, rig = (usable, given.own_rig(bins)) if given.coarse else (binned, given.rig)
        covered = None if given.coarse else given.covered(bins)
        unfit[rows] = chance(light[rows], about, prior, rig, data.known_tissue, covered).numpy() < SURELY
    gain = data.rig.detector.gain
    doubt = doubtful(seen / gain, there / gain, physical, data.scale, given.strange, lit, unfit)
    flag = np.where(bad, flag, doubt)
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
