"""A rig: the instrument, the surface of the tissue below it, and how light gets to a target and back.

Shapes: B scenes, F frequencies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Literal

from torch import Tensor

from apps.lidar.diffusion import by_diffusion
from apps.lidar.instrument import Clock, Detector, Response, gaussian, measured
from apps.lidar.optics import SURFACES, Surface
from apps.lidar.transport import WhiteMonteCarlo

Light = Literal["diffusion", "monte_carlo"]
Transport = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""depth, scattering, absorption (B,), omega (F,) -> the spectrum (B, F) of light to the target and back."""


@dataclass(frozen=True)
class Rig:
    """What histograms are measured with.

    Attributes:
        clock: the bins.
        detector: what it adds.
        surface: whether tissue reflects light from inside, or has the index of what lies above it.
        response: a measured one, which takes the place of the Gaussian ones of scenes.
    """

    clock: Clock = field(default_factory=Clock)
    detector: Detector = field(default_factory=Detector)
    surface: Surface = "mismatched"
    response: Response | None = None

    def answer(self, width: Tensor) -> Tensor:
        """Spectra (B, F) of the response: Gaussian, of full width at half maximum (B,) ns, or measured."""
        if self.response is None:
            return gaussian(width, self.clock.omega)
        return measured(self.response, self.clock)[0].expand(len(width), -1)

    def transport(self, light: Light) -> Transport:
        """How light gets to a target and back: by diffusion theory, or as photons one by one."""
        if light == "diffusion":
            return partial(by_diffusion, surface=SURFACES[self.surface])
        return _white(self.clock, self.surface)

    def reach(self, light: Light) -> float:
        """How deep a target may lie, in transport lengths."""
        return float("inf") if light == "diffusion" else _white(self.clock, self.surface).deepest


@cache
def _white(clock: Clock, surface: Surface) -> WhiteMonteCarlo:
    return WhiteMonteCarlo(clock, surface)
