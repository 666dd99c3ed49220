"""What measures the light: bins of time, what the detector adds, and how the instrument answers a flash."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import log

import numpy as np
import torch
from torch import Tensor

from apps.common.errors import UserError

Response = tuple[tuple[float, ...], tuple[float, ...]]
"""Times in ns, and counts."""
TO_DEVIATION = 1 / (8 * log(2)) ** 0.5
"""Standard deviation of a Gaussian of full width at half maximum 1."""


@dataclass(frozen=True)
class Clock:
    """The bins of a histogram.

    Attributes:
        bins: T.
        width: of a bin, ns.
        flash: when light that takes no time arrives, in ns after the first bin begins.
    """

    bins: int = 256
    width: float = 0.032
    flash: float = 1.0

    @property
    def omega(self) -> Tensor:
        """Angular frequencies (F,) in rad/ns of a period of two windows, so that tails do not come round."""
        omega: Tensor = 2 * torch.pi * torch.fft.rfftfreq(2 * self.bins, self.width, dtype=torch.float64)
        return omega

    @property
    def centres(self) -> Tensor:
        """Middle of each bin, (T,) ns after the flash."""
        return (torch.arange(self.bins, dtype=torch.float64) + 0.5) * self.width - self.flash

    def curve(self, spectrum: Tensor) -> Tensor:
        """Light by bin (..., T) of spectra (..., F) of light that starts at time zero."""
        within = torch.sinc(self.omega * self.width / (2 * torch.pi))
        shift = torch.polar(within, -self.omega * (self.flash - self.width / 2))
        shift = shift.to(torch.promote_types(spectrum.dtype, torch.complex64))
        whole = torch.fft.irfft(spectrum * shift, 2 * self.bins)
        light: Tensor = whole[..., : self.bins]
        return light


@dataclass(frozen=True)
class Detector:
    """What a detector adds to the light.

    Attributes:
        afterpulses: photons that a photon sets free later, on average; they come after an exponential time.
        afterpulse_time: mean of that time, ns.
        pileup: photons a flash, on average. The detector sees the first one alone; 0 for no such loss.
    """

    afterpulses: float = 0.0
    afterpulse_time: float = 2.0
    pileup: float = 0.0


def gaussian(width: Tensor, omega: Tensor) -> Tensor:
    """Real spectra (B, F) of Gaussian responses of full width at half maximum (B,) ns, centred at zero."""
    deviation = width.unsqueeze(-1) * TO_DEVIATION
    return torch.exp(-(omega * deviation).square() / 2)


@cache
def measured(response: Response, clock: Clock) -> tuple[Tensor, float]:
    """Spectrum (F,) of a measured response, its centre of mass at zero, and that centre, ns.

    Args:
        response: of times equally spaced, background included: the median of the lowest half of the counts
            is taken off.
        clock: of the histograms.

    Raises:
        UserError: times that are not equally spaced, no light, or a response wider than half the window.
    """
    time, counts = (np.array(values) for values in response)
    if len(time) < 3 or np.ptp(np.diff(time)) > 1e-3 * np.diff(time).mean():
        raise UserError("the times of the instrument response are not equally spaced: give one row a bin.")
    light = np.clip(counts - np.median(np.sort(counts)[: len(counts) // 2]), 0, None)
    light[light < 1e-3 * light.max()] = 0
    if not light.max() > 0:
        raise UserError("the instrument response has no light: give counts with a peak.")
    light = light / light.sum()
    centre = float(light @ time)
    spread = float(light @ (time - centre) ** 2) ** 0.5
    if spread / TO_DEVIATION > clock.bins * clock.width / 2:
        raise UserError(
            f"the instrument response is {spread / TO_DEVIATION:.3g} ns wide and the histograms' window "
            f"{clock.bins * clock.width:.3g} ns: measure in a longer window, or say the right bin width."
        )
    phase = -1j * clock.omega.unsqueeze(-1) * torch.from_numpy(time - centre)
    return torch.exp(phase) @ torch.from_numpy(light).to(torch.complex128), centre
