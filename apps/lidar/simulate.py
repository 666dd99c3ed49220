"""Histograms of photon arrival times over a fluorescent target in tissue.

What a histogram expects is light to the target, decay, light back and the instrument's answer, convolved;
what it holds is drawn from Poisson's law. Shapes: B scenes, T bins, F frequencies.
"""

from __future__ import annotations

import torch
from torch import Tensor

from apps.lidar.instrument import Clock
from apps.lidar.rig import Light, Rig
from apps.lidar.scenes import Scenes

CHUNK = 4096
"""Scenes in memory at a time."""


def signal(scenes: Scenes, rig: Rig, light: Light = "diffusion") -> Tensor:
    """Light by bin (B, T), which adds up to 1 over the window, without background.

    Args:
        scenes: B of them.
        rig: what measures it.
        light: by what law it wanders.
    """
    omega = rig.clock.omega.to(scenes.depth)
    travel = rig.transport(light)(scenes.depth, scenes.scattering, scenes.absorption, omega)
    first, second = (_decay(t, omega) for t in (scenes.lifetime, scenes.second_lifetime))
    decay = torch.lerp(first, second, scenes.second_share.unsqueeze(-1).to(first.dtype))
    found = rig.clock.curve(travel * decay * rig.answer(scenes.response)).clamp(min=0)
    return found / found.sum(-1, keepdim=True)


def expected(scenes: Scenes, rig: Rig, light: Light = "diffusion") -> Tensor:
    """Expected counts (B, T), background included. The arguments are those of `signal`."""
    seen = scenes.photons.unsqueeze(-1) * signal(scenes, rig, light)
    ever = scenes.photons * scenes.background / (1 - scenes.background)
    counts, detector = seen + (ever / rig.clock.bins).unsqueeze(-1), rig.detector
    if detector.afterpulses:
        counts = counts + detector.afterpulses * _delayed(counts, rig.clock, detector.afterpulse_time)
    return first_of_flash(counts, detector.pileup) if detector.pileup else counts


def histograms(scenes: Scenes, rig: Rig, generator: torch.Generator, light: Light = "diffusion") -> Tensor:
    """Draw counts (B, T), float32, a chunk of scenes at a time. The arguments are those of `signal`."""
    drawn = []
    for begin in range(0, len(scenes), CHUNK):
        counts = expected(scenes[slice(begin, begin + CHUNK)], rig, light)
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
