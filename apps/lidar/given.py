"""What is said of a user's histograms, and whether it is like what the run was trained on.

Shapes: N histograms, F frequencies.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from apps.common.errors import UserError
from apps.lidar.bound import Prior
from apps.lidar.data import Data
from apps.lidar.files import Cube, read_response, rebinned
from apps.lidar.flags import beyond
from apps.lidar.instrument import TO_DEVIATION, Clock, measured
from apps.lidar.rig import Rig
from apps.lidar.scenes import TOLERANCE, Ranges

UNLIKE, MISSED = 0.1, 0.15
"""Share of a response that may lie elsewhere than in one of training, and of the window of training that a
record may miss: with a seventh of it dark, errors of a usual run grow by an eighth at most."""

Bins = tuple[float, float]
"""Width of a bin, and when light that takes no time arrives after the first begins; ns."""


class Given(NamedTuple):
    """What is given of histograms; of a single row where it is the same for all.

    bins; rig, with the response if it was measured; width of the response if it was not, ns; tissue (N, 2),
    1/mm, or None; absent (N,), where tissue should be and is not; strange (N,), where any of it is unlike
    training.
    """

    bins: Bins
    rig: Rig
    width: float
    tissue: Tensor | None
    absent: np.ndarray
    strange: np.ndarray

    def covered(self, bins: int) -> Tensor:
        """Which bins of the rig a record of so many covers whole, (T,) bool."""
        ratio = self.rig.clock.width / self.bins[0]
        return rebinned(torch.ones(1, bins), *self.bins, self.rig.clock)[0] > 0.999 * ratio

    @property
    def coarse(self) -> bool:
        """Whether bins are wider than the rig's, so that counts on its clock are smeared."""
        return self.bins[0] > 1.001 * self.rig.clock.width

    def own_rig(self, bins: int) -> Rig:
        """The rig with that many bins of the histograms themselves."""
        return replace(self.rig, clock=Clock(bins, *self.bins))

    @property
    def response(self) -> Tensor:
        """Its spectrum (F,)."""
        return self.rig.answer(torch.tensor([self.width], dtype=torch.float64))[0]

    def prior(self, number: int, ranges: Ranges) -> Prior:
        """What is known beforehand of that many histograms, whose tissue this is."""
        width = torch.full((number,), self.width, dtype=torch.float64)
        some = ranges.draw(number, torch.Generator())  # of which nothing but the response is read
        some = some.having(response=width, second_share=torch.zeros_like(width))
        return Prior.of(some, None if self.tissue is None else self.tissue.expand(number, -1), ranges)

    def at(self, rows: slice) -> Given:
        """That of some histograms."""
        tissue = self.tissue if self.tissue is None or len(self.tissue) == 1 else self.tissue[rows]
        absent, strange = (all_ if len(all_) == 1 else all_[rows] for all_ in (self.absent, self.strange))
        return self._replace(tissue=tissue, absent=absent, strange=strange)


def given_of(
    cube: Cube,
    data: Data,
    irf: Path | None,
    width: float | None,
    bin_width: float | None,
    flash: float | None,
    scattering: float | None,
    absorption: float | None,
) -> Given:
    """What a file and the options of `predict` say, checked; says what of it is unlike training."""
    rig, spread = rig_of(data, irf, width)
    bins = bins_of(cube, data, bin_width), flash_of(rig, flash)
    tissue, absent = tissue_of(cube, data, scattering, absorption)
    given = Given(bins, rig, spread, tissue, absent, np.zeros(1, dtype=bool))
    return given._replace(strange=strange_at(cube.counts.shape[-1], data, given))


def rig_of(data: Data, irf: Path | None, width: float | None) -> tuple[Rig, float]:
    """The run's rig with the response of the histograms, and the width of that if it is Gaussian, ns."""
    own = data.rig.response
    if irf is not None and width is not None:
        raise UserError("--irf and --width tell the response twice: leave one of them out.")
    if irf is None and width is None and own is None:
        raise UserError(
            "say how the instrument answers a flash: --irf irf.csv, or --width 0.2 for a Gaussian in ns."
        )
    if width is not None:
        if not 0 < width < data.clock.bins * data.clock.width / 2:
            raise UserError(f"--width {width} ns is no width of a response: give one below half the window.")
        return replace(data.rig, response=None), width
    return replace(data.rig, response=own if irf is None else read_response(irf, data.clock)), math.nan


def flash_of(rig: Rig, said: float | None) -> float:
    """When the flash comes on the histograms' clock, ns: as said, by the response, or as in training."""
    told = None if rig.response is None else measured(rig.response, rig.clock)[1]
    moment = next(when for when in (said, told, rig.clock.flash) if when is not None)
    if said is None and told is None:
        print(
            f"note: the flash is taken to come {moment:g} ns after the histograms begin, as in training; if "
            "not, say when, --flash, as every depth hangs on it."
        )
    if not math.isfinite(moment):
        raise UserError(f"--flash {moment} is no time: say it in ns, or leave it out.")
    return moment


def bins_of(cube: Cube, data: Data, said: float | None) -> float:
    """Width of a bin in ns, as it is said, or stands in the file, or as in training."""
    step = next(width for width in (said, cube.width, data.clock.width) if width is not None)
    if not step > 0:
        raise UserError(f"{cube.source}: bins of {step} ns are none: say how wide they are, --bin_width.")
    if said and cube.width and abs(said - cube.width) > 1e-6:
        raise UserError(
            f"{cube.source} says bins of {cube.width:g} ns and --bin_width {said}: correct the file, or "
            "leave --bin_width out."
        )
    bins, clock = cube.counts.shape[-1], data.clock
    if step > clock.bins * clock.width:
        raise UserError(
            f"{cube.source}: bins of {step:g} ns are wider than the run's whole window of "
            f"{clock.bins * clock.width:g} ns: say their width in ns, not ps, --bin_width."
        )
    if said is None and cube.width is None and bins != clock.bins:
        raise UserError(
            f"{cube.source} has {bins} bins along its last axis and the run was trained on {clock.bins} of "
            f"{clock.width} ns: say how wide yours are, --bin_width, if all of these are bins, and none a "
            "number of the pixel."
        )
    return step


def tissue_of(
    cube: Cube, data: Data, scattering: float | None, absorption: float | None
) -> tuple[Tensor | None, np.ndarray]:
    """Known tissue (N, 2) in 1/mm, None where not known; and where it is absent, (N,)."""
    said = [scattering, absorption]
    nowhere = np.zeros(1, dtype=bool)
    if not data.known_tissue:
        if said != [None, None]:
            raise UserError(
                "this run was trained for unknown tissue: leave scattering and absorption out, or name "
                "another run, --run."
            )
        if cube.tissue is not None:
            print("note: this run was trained for unknown tissue, and does not read that of the file.")
        return None, nowhere
    if said != [None, None] and cube.tissue is not None:
        raise UserError(
            f"{cube.source} has scattering and absorption, and --scattering or --absorption says them too: "
            "leave the options out."
        )
    if cube.tissue is not None:
        pair = list(np.broadcast_arrays(*(values.ravel() for values in cube.tissue)))
    elif None in said:
        raise UserError(
            f"{cube.source} tells no tissue, and this run was trained for known tissue: give --scattering "
            "and --absorption, or name a run that was trained with --data.known_tissue false."
        )
    else:
        pair = [np.array([value], dtype=float) for value in said]
    there = np.logical_and.reduce([np.isfinite(values) & (values > 0) for values in pair])
    if not there.any():
        raise UserError(f"{cube.source}: scattering and absorption must be positive numbers, in 1/mm.")
    usual = [sum(getattr(data.scale, name)) / 2 for name in ("scattering", "absorption")]
    filled = [
        torch.from_numpy(np.where(there, values, middle)) for values, middle in zip(pair, usual, strict=True)
    ]
    return torch.stack(filled, dim=1), ~there


def strange_at(bins: int, data: Data, given: Given) -> np.ndarray:
    """Where bins, response or tissue are unlike those of training, (N,) or (1,); where they are, say so."""
    missed, of_bins = _of_bins(bins, given.bins, data)
    if of_bins and missed <= MISSED:
        print(f"note: {of_bins}.")
    notes = [of_bins] if missed > MISSED else []
    notes += _of_response(given.response, data)
    strange, tissue = np.full(1, bool(notes)), given.tissue
    if tissue is not None:
        ranges = [getattr(data.scale, name) for name in ("scattering", "absorption")]
        outside = np.logical_or.reduce(
            [
                beyond(values, (low * (1 - TOLERANCE), high * (1 + TOLERANCE)), 0.0)
                for values, (low, high) in zip(tissue.T.numpy(), ranges, strict=True)
            ]
        )
        if outside.any():
            some = "all" if outside.all() else f"{outside.sum():,}"
            notes.append(f"the tissue of {some} histograms lies beyond the ranges of training")
        strange = strange | outside
    for note in notes:
        print(f"note: {note}; estimates may be wrong and are flagged.")
    return strange


def _of_bins(number: int, bins: Bins, data: Data) -> tuple[float, str]:
    """The share of the window of training that a record misses, and what is to be said of it."""
    (width, flash), clock = bins, data.clock
    begin, end = -flash, number * width - flash
    wanted = -clock.flash, clock.bins * clock.width - clock.flash
    dark = max(0.0, begin - wanted[0]) + max(0.0, wanted[1] - end)
    missed = min(1.0, dark / (clock.bins * clock.width))
    if missed <= 1 / clock.bins:
        return missed, ""
    return missed, (
        f"the histograms tell of {begin:.3g} to {end:.3g} ns after the flash, and the run was trained on "
        f"{wanted[0]:.3g} to {wanted[1]:.3g}: what is missing reads as dark (--data.bins, --data.bin_width "
        "and --data.flash train on yours)"
    )


def _of_response(response: Tensor, data: Data) -> list[str]:
    """What is to be said of a response unlike those of training."""
    curve, at = data.clock.curve(response), data.clock.centres
    centre = (curve @ at) / curve.sum()
    spread = ((curve @ (at - centre).square()) / curve.sum()).clamp(min=0).sqrt() / TO_DEVIATION
    trained = data.clock.curve(data.rig.answer(spread[None]))[0]
    unlike = float((curve - trained).abs().sum() / 2)
    if unlike > UNLIKE:
        return [f"{unlike:.0%} of the response lies elsewhere than in training, so train on it: --data.irf"]
    if data.rig.response is None and beyond(spread[None].numpy(), data.scale.response).any():
        low, high = data.scale.response
        return [f"the response is as wide as a Gaussian of {spread:.3g} ns, in training {low} to {high}"]
    return []
