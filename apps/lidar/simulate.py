"""Histograms of photon arrival times over a fluorescent target in tissue.

What a histogram expects is light to the target, decay, light back and the instrument's answer, convolved;
what it holds is drawn from Poisson's law. Shapes: B scenes, T bins, F frequencies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from apps.lidar.diffusion import by_diffusion
from apps.lidar.instrument import Clock, gaussian
from apps.lidar.scenes import Scenes

CHUNK = 4096
"""Scenes in memory at a time."""

Transport = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""depth, scattering, absorption (B,), omega (F,) -> the spectrum (B, F) of light to the target and back."""


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


def signal(
    scenes: Scenes, clock: Clock, response: Tensor | None = None, transport: Transport = by_diffusion
) -> Tensor:
    """Light by bin (B, T), which adds up to 1 over the window, without background.

    Args:
        scenes: B of them.
        clock: the bins.
        response: spectrum (F,) of a measured response, see `instrument.measured`, instead of Gaussian ones.
        transport: light to the target and back; by diffusion theory by default.
    """
    omega = clock.omega.to(scenes.depth)
    travel = transport(scenes.depth, scenes.scattering, scenes.absorption, omega)
    first, second = (_decay(t, omega) for t in (scenes.lifetime, scenes.second_lifetime))
    decay = torch.lerp(first, second, scenes.second_share.unsqueeze(-1).to(first.dtype))
    answer = gaussian(scenes.response, omega) if response is None else response
    light = clock.curve(travel * decay * answer).clamp(min=0)
    return light / light.sum(-1, keepdim=True)


def expected(
    scenes: Scenes,
    clock: Clock,
    detector: Detector | None = None,
    response: Tensor | None = None,
    transport: Transport = by_diffusion,
) -> Tensor:
    """Expected counts (B, T), background included. The arguments are those of `signal`, and a detector."""
    detector = detector or Detector()
    light = scenes.photons.unsqueeze(-1) * signal(scenes, clock, response, transport)
    ever = scenes.photons * scenes.background / (1 - scenes.background)
    counts = light + (ever / clock.bins).unsqueeze(-1)
    if detector.afterpulses:
        counts = counts + detector.afterpulses * _delayed(counts, clock, detector.afterpulse_time)
    return first_of_flash(counts, detector.pileup) if detector.pileup else counts


def histograms(
    scenes: Scenes,
    clock: Clock,
    generator: torch.Generator,
    detector: Detector | None = None,
    response: Tensor | None = None,
    transport: Transport = by_diffusion,
) -> Tensor:
    """Draw counts (B, T), float32, a chunk of scenes at a time. The arguments are those of `expected`."""
    drawn = []
    for begin in range(0, len(scenes), CHUNK):
        part = scenes[slice(begin, begin + CHUNK)]
        counts = expected(part, clock, detector, response, transport)
        drawn.append(torch.poisson(counts, generator=generator).float())
    return torch.cat(drawn)


def first_of_flash(counts: Tensor, rate: float) -> Tensor:
    """Expected counts (B, T) of a detector that sees but the first of `rate` photons a flash, on average.

    Source: Coates (1968), The correction for photon pile-up in the measurement of radiative lifetimes.
    """
    total = counts.sum(-1, keepdim=True)
    a_flash = rate * counts / total
    before = a_flash.cumsum(-1) - a_flash
    seen: Tensor = torch.exp(-before) * -torch.expm1(-a_flash) * total / rate
    return seen


def _decay(lifetime: Tensor, omega: Tensor) -> Tensor:
    return 1 / (1 + 1j * omega * lifetime.unsqueeze(-1))


def _delayed(counts: Tensor, clock: Clock, mean: float) -> Tensor:
    """Counts (B, T), each after an exponential time."""
    late = torch.exp(-clock.width * torch.arange(clock.bins, dtype=counts.dtype) / mean)
    late = late / late.sum() * -torch.expm1(torch.tensor(-clock.bins * clock.width / mean))
    spectrum = torch.fft.rfft(counts, 2 * clock.bins) * torch.fft.rfft(late, 2 * clock.bins)
    delayed: Tensor = torch.fft.irfft(spectrum, 2 * clock.bins)[..., : clock.bins]
    return delayed
