"""The data module: scenes drawn from ranges, and histograms of them, drawn anew at every look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from apps.common.errors import UserError
from apps.common.loaders import ResumableLoader, as_it_is, derive_seed
from apps.lidar.files import read_response
from apps.lidar.instrument import Clock, Detector, measured
from apps.lidar.model import Reading
from apps.lidar.optics import Surface
from apps.lidar.readings import Scale, reading
from apps.lidar.rig import Light, Rig
from apps.lidar.scenes import Ranges, Scenes, as_given
from apps.lidar.simulate import CHUNK, expected

APP = "lidar"
FLASH = 1.0
"""When light that takes no time comes, ns after the window begins, where nobody says it."""
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)


class Batch(NamedTuple):
    """Readings of B histograms, and their outputs (B, 2) in units of the ranges."""

    reading: Reading
    target: Tensor


class Data(LightningDataModule):
    """Histograms of scenes that are drawn from ranges.

    Training scenes keep their light, and have their photons drawn anew in every epoch; those of validation
    and test are drawn once.

    Args:
        light: "diffusion" theory, or "monte_carlo", wandering photons.
        known_tissue: whether scattering and absorption are given, within a tenth.
        scenes: number of training scenes.
        held_out: number of validation scenes, and of test scenes.
        batch_size: histograms a batch.
        bins: of a histogram, see `instrument.Clock`.
        bin_width: in ns.
        flash: when the flash comes, in ns; 1 ns after the window begins by default, or where a measured
            response says.
        ranges: of the scenes.
        detector: what the detector adds, see `instrument.Detector`.
        irf: table of the rig's measured response, time in ns and counts, instead of Gaussian ones.
        surface: whether tissue reflects light from inside, "mismatched", or has the index of what lies above.
        seed: of scenes and their photons.
        batch_seed: of the order of batches, and of the photons of training; the same by default.
    """

    def __init__(
        self,
        light: Light = "diffusion",
        known_tissue: bool = True,
        scenes: int = 40_000,
        held_out: int = 4000,
        batch_size: int = 256,
        bins: int = 256,
        bin_width: float = 0.032,
        flash: float | None = None,
        ranges: Ranges | None = None,
        detector: Detector | None = None,
        irf: Path | None = None,
        surface: Surface = "mismatched",
        seed: int = 0,
        batch_seed: int | None = None,
    ) -> None:
        super().__init__()
        if min(scenes, held_out, batch_size, bins) < 1 or bin_width <= 0:
            raise UserError(
                "data: scenes, held_out, batch_size, bins and bin_width must be positive: raise them."
            )
        self.light, self.known_tissue = light, known_tissue
        self.scenes, self.held_out, self.batch_size, self.seed = scenes, held_out, batch_size, seed
        self.batch_seed = seed if batch_seed is None else batch_seed
        clock, self.ranges = Clock(bins, bin_width, FLASH if flash is None else flash), ranges or Ranges()
        response = None if irf is None else read_response(irf, clock)
        if response is not None and flash is None:
            clock = replace(clock, flash=measured(response, clock)[1])
        if not 0 <= clock.flash < bins * bin_width:
            raise UserError(
                f"data.flash: the flash comes {clock.flash:.4g} ns after the beginning of a window of "
                f"{bins * bin_width:.4g} ns: put it inside."
            )
        self.rig = Rig(clock, detector or Detector(), surface, response)
        deepest, reach = self.ranges.depth[1] * self.ranges.scattering[1], self.rig.reach(light)
        if deepest > reach:
            raise UserError(
                f"targets lie up to {deepest:.4g} transport lengths deep (depth times scattering), and light "
                f"by Monte Carlo is known up to {reach:.4g}: lower data.ranges.depth or .scattering."
            )
        self.scale = Scale.of(self.ranges)
        self._parts: dict[Part, Histograms] = {}

    def setup(self, stage: str | None = None) -> None:
        """Draw scenes, and see what light they send."""

    def part(self, part: Part) -> Histograms:
        """The histograms of one part; each is made when it is first asked for."""
        if part not in self._parts:
            number = self.scenes if part == "train" else self.held_out
            generator = torch.Generator().manual_seed(derive_seed(self.seed, PARTS.index(part)))
            scenes = self.ranges.draw(number, generator)
            self._parts[part] = Histograms(self, scenes, generator, once=part != "train")
        return self._parts[part]

    @property
    def clock(self) -> Clock:
        """The bins."""
        return self.rig.clock

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled by (seed, epoch), which also decide the photons."""
        return ResumableLoader(self.part("train"), self.batch_size, seed=self.batch_seed, collate_fn=as_it_is)

    def val_dataloader(self) -> DataLoader[Any]:
        """In order."""
        return self._in_order("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        """In order."""
        return self._in_order("test")

    def state_dict(self) -> dict[str, Any]:
        """Return what prediction needs, as plain values."""
        return {
            "clock": asdict(self.clock),
            "response": self.rig.response,
            "scale": asdict(self.scale),
            "known_tissue": self.known_tissue,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take clock, response and scale over."""
        clock = Clock(**state_dict["clock"])
        self.rig = replace(self.rig, clock=clock, response=state_dict["response"])
        self.scale = Scale(**{name: tuple(ends) for name, ends in state_dict["scale"].items()})

    def _in_order(self, part: Part) -> DataLoader[Any]:
        return DataLoader(self.part(part), 1024, collate_fn=as_it_is)


class Histograms(Dataset[Batch]):
    """Histograms of scenes, whose photons are drawn when they are read, or once.

    Args:
        data: what is told of light, clock and tissue.
        truth: the scenes.
        generator: of what is said of tissue, and of photons that are drawn once.
        once: whether they are.

    Attributes:
        tissue: (N, 2) what is said of scattering and absorption, 1/mm; within a tenth of the truth.
        light: (N, T) expected counts.
        counts: (N, T) those that were drawn once, or None.
    """

    def __init__(self, data: Data, truth: Scenes, generator: torch.Generator, once: bool = True) -> None:
        self.data, self.truth = data, truth
        given = [as_given(getattr(truth, name), generator) for name in ("scattering", "absorption")]
        self.tissue = torch.stack(given, dim=1)
        chunks = [truth[slice(i, i + CHUNK)] for i in range(0, len(truth), CHUNK)]
        light = [expected(some, data.rig, data.light) for some in chunks]
        self.light = torch.cat(light).float()
        self.counts = torch.poisson(self.light, generator=generator) if once else None

    def __len__(self) -> int:
        return len(self.truth)

    def __getitems__(self, rows: Sequence[int] | Tensor) -> Batch:
        """Read some histograms; photons that are drawn now follow the global generator."""
        index = torch.as_tensor(rows)
        counts = torch.poisson(self.light[index]) if self.counts is None else self.counts[index]
        scenes, rig, scale = self.truth[index], self.data.rig, self.data.scale
        response = rig.clock.curve(rig.answer(scenes.response)).float()
        tissue = scale.tissue(*self.tissue[index].T) if self.data.known_tissue else None
        return Batch(reading(counts, response, tissue), scale.target(scenes.depth, scenes.lifetime))
