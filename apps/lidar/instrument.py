"""What measures the light: bins of time, what the detector adds, and how the instrument answers a flash."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil, expm1, log

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from apps.common.errors import UserError

Response = tuple[tuple[float, ...], tuple[float, ...]]
"""Times in ns, and counts."""
LONGEST = 16.0
"""Time in ns after which hardly any light comes: ten of the longest lifetimes."""
UNEVEN = 0.1
"""Share of a step by which times may be off, as where they were rounded."""
SMOOTHED = 5
"""Bins over which a response is averaged to tell light from noise."""
SOME, SURE = (3.0, 1e-3), (8.0, 2e-3)
"""Deviations of the background, and share of the peak, above which a stretch of bins may be light, and which
one of its bins exceeds if it is."""
LIT = 0.05
"""Share of the peak by which a background may exceed what the ends of a table show."""
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
    def period(self) -> int:
        """Bins after which light would come round: two windows, and LONGEST at the least."""
        return self.bins * max(2, ceil(LONGEST / (self.bins * self.width)))

    @property
    def omega(self) -> Tensor:
        """Angular frequencies (F,) in rad/ns of a period."""
        omega: Tensor = 2 * torch.pi * torch.fft.rfftfreq(self.period, self.width, dtype=torch.float64)
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
        whole = torch.fft.irfft(spectrum * shift, self.period)
        light: Tensor = whole[..., : self.bins]
        return light


@dataclass(frozen=True)
class Detector:
    """What a detector adds to the light.

    Attributes:
        afterpulses: photons that a photon sets free later, on average; they come after an exponential time.
        afterpulse_time: mean of that time, ns.
        pileup: photons a flash, on average. The detector sees the first one alone; 0 for no such loss.

    Raises:
        ValueError: a number below zero, or an afterpulse_time of zero.
    """

    afterpulses: float = 0.0
    afterpulse_time: float = 2.0
    pileup: float = 0.0

    @property
    def gain(self) -> float:
        """Photons that it tells for each that comes, where none of the later ones is lost."""
        seen = -expm1(-self.pileup) / self.pileup if self.pileup else 1.0
        return seen * (1 + self.afterpulses)

    def __post_init__(self) -> None:
        """Refuse what no detector does."""
        if not (self.afterpulses >= 0 and self.pileup >= 0 and self.afterpulse_time > 0):
            raise ValueError(
                f"{self}: afterpulses and pileup must not be negative, and afterpulse_time must be positive"
            )


def gaussian(width: Tensor, omega: Tensor) -> Tensor:
    """Real spectra (B, F) of Gaussian responses of full width at half maximum (B,) ns, centred at zero."""
    deviation = width.unsqueeze(-1) * TO_DEVIATION
    return torch.exp(-(omega * deviation).square() / 2)


@cache
def measured(response: Response, clock: Clock) -> tuple[Tensor, float]:
    """Spectrum (F,) of a measured response, its centre of mass at zero, and that centre, ns.

    Args:
        response: of times equally spaced. The background is taken off, and what does not stand out of its
            noise around the peak.
        clock: of the histograms.

    Raises:
        UserError: times that are not equally spaced, no light, or a response wider than half the window.
    """
    time, light = _cleaned(*(np.array(values) for values in response))
    step = time[1] - time[0]
    if step > 1.5 * clock.width:  # as spikes so far apart rows would be a comb
        fine = np.arange(time[0], time[-1], clock.width / 2)
        time, light = fine, np.interp(fine, time, light)
    light = light / light.sum()
    centre = float(light @ time)
    spread = float(light @ (time - centre) ** 2) ** 0.5
    if spread / TO_DEVIATION > clock.bins * clock.width / 2:
        raise UserError(
            f"the instrument response is {spread / TO_DEVIATION:.3g} ns wide and the histograms' window "
            f"{clock.bins * clock.width:.3g} ns: give its times in ns, not ps, or measure in a longer window."
        )
    phase = -1j * clock.omega.unsqueeze(-1) * torch.from_numpy(time - centre)
    return torch.exp(phase) @ torch.from_numpy(light).to(torch.complex128), centre


def _cleaned(time: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal times (N,), and the light (N,) that stands out of the background around its peak."""
    if not (np.isfinite(time).all() and np.isfinite(counts).all()):
        raise UserError("the instrument response holds what is no finite number: fill it in.")
    even = np.linspace(time[0], time[-1], len(time)) if len(time) else time
    step = (even[-1] - even[0]) / (len(even) - 1) if len(even) > 2 else 0.0
    if len(time) > 1 and not (np.diff(time) > 0).all():
        raise UserError("the times of the instrument response do not rise: sort its rows by time.")
    if not step > 0 or np.abs(time - even).max() > UNEVEN * step:
        raise UserError("the times of the instrument response are not equally spaced: give one row a bin.")
    floor, noise = _background(counts)
    smooth = np.convolve(counts - floor, np.full(SMOOTHED, 1 / SMOOTHED), "same")
    some, sure = (max(n * noise / SMOOTHED**0.5, share * smooth.max()) for n, share in (SOME, SURE))
    pieces, _ = label(smooth > some)
    lit = np.isin(pieces, np.unique(pieces[smooth > sure])) & (pieces > 0)
    if not smooth.max() > 0 or not lit.any():
        raise UserError("the instrument response has no light: give counts with a peak.")
    return even, np.where(lit, np.clip(counts - floor, 0, None), 0.0)


def _background(counts: np.ndarray) -> tuple[float, float]:
    """Level and deviation of a normal background, by what lies below the median: light is above.

    Where that is more than the dimmer end of the table shows, most of the table is light: then there is as
    much background as at that end, and nothing is known of its noise.
    """
    low, high = np.quantile(counts, (0.1, 0.4))
    noise = (high - low) / (1.2816 - 0.2533)
    level = high + 0.2533 * noise
    end = min(counts[:SMOOTHED].mean(), counts[-SMOOTHED:].mean())
    if level > end + LIT * (counts.max() - end):
        return float(end), 0.0
    return float(level), float(noise)
