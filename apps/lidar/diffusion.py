"""Light to a point in tissue and back by diffusion theory, in a medium that fills half of space.

A pencil of light enters at the origin and becomes an isotropic source one transport length below; fluence is
zero on an extrapolated plane above the surface. Everything is a spectrum: in the frequency domain the
solutions are damped spherical waves, and convolutions in time are products. Angular frequencies in rad/ns.

Source: Contini, Martelli and Zaccanti (1997), Photon migration through a turbid slab described by a model
based on diffusion approximation; the waves are in Fishkin and Gratton (1993).

Shapes: B scenes, F frequencies.
"""

import torch
from torch import Tensor

from apps.lidar.optics import INDEX, mismatch, speed

RADIUS = 0.5
"""Radius of the target in mm. Its light is that at the distance from the axis that is its mean, by area."""


def to_target(
    depth: Tensor, scattering: Tensor, absorption: Tensor, omega: Tensor, surface: float = INDEX
) -> Tensor:
    """Spectrum (B, F) of the fluence at a target, per unit of light sent in, complex.

    Args:
        depth: (B,) mm.
        scattering: (B,) reduced, 1/mm.
        absorption: (B,) 1/mm.
        omega: (F,) rad/ns.
        surface: index of tissue over that of what lies above it; 1 where it reflects nothing.
    """
    return _to_target(depth, scattering, surface, _wave_number(scattering, absorption, omega))


def to_surface(
    depth: Tensor, scattering: Tensor, absorption: Tensor, omega: Tensor, surface: float = INDEX
) -> Tensor:
    """Spectrum (B, F) of the light that leaves the surface above an isotropic point source, per unit and
    area.

    The arguments are those of `to_target`.
    """
    return _to_surface(depth, scattering, surface, _wave_number(scattering, absorption, omega))


def by_diffusion(
    depth: Tensor, scattering: Tensor, absorption: Tensor, omega: Tensor, surface: float = INDEX
) -> Tensor:
    """The product of both, (B, F), of the same arguments."""
    wave = _wave_number(scattering, absorption, omega)
    return _to_target(depth, scattering, surface, wave) * _to_surface(depth, scattering, surface, wave)


def _to_target(depth: Tensor, scattering: Tensor, surface: float, wave: Tensor) -> Tensor:
    source, off_axis = 1 / scattering, RADIUS**2 / 2
    near = ((depth - source).square() + off_axis).sqrt()
    far = ((depth + source + _above(scattering, surface)).square() + off_axis).sqrt()
    field = _damped(wave, near) - _damped(wave, far)
    return field * (3 * scattering / (4 * torch.pi)).unsqueeze(-1)


def _to_surface(depth: Tensor, scattering: Tensor, surface: float, wave: Tensor) -> Tensor:
    distances = (depth, depth + _above(scattering, surface))
    fields = [(wave + (1 / r).unsqueeze(-1)) * _damped(wave, r) for r in distances]
    return (fields[0] + fields[1]) / (4 * torch.pi)


def _above(scattering: Tensor, surface: float) -> Tensor:
    """Twice the height of the extrapolated plane, (B,) mm; the diffusivity is 1 / (3 scattering)."""
    return 4 * mismatch(surface) / (3 * scattering)


def _wave_number(scattering: Tensor, absorption: Tensor, omega: Tensor) -> Tensor:
    """The root of (absorption + i omega / speed) over the diffusivity, (B, F); its real part is positive."""
    inverse = (3 * scattering).unsqueeze(-1)
    loss, turn = absorption.unsqueeze(-1) * inverse, omega / speed(INDEX) * inverse
    real = ((torch.hypot(loss, turn) + loss) / 2).sqrt()
    return torch.complex(real, turn / (2 * real.clamp(min=1e-30)))


def _damped(wave: Tensor, distance: Tensor) -> Tensor:
    r = distance.unsqueeze(-1)
    return torch.polar(torch.exp(-wave.real * r) / r, -wave.imag * r)
