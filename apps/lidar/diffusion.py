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


def to_target(depth: Tensor, scattering: Tensor, absorption: Tensor, omega: Tensor) -> Tensor:
    """Spectrum (B, F) of the fluence at a target, per unit of light sent in, complex.

    Args:
        depth: (B,) mm.
        scattering: (B,) reduced, 1/mm.
        absorption: (B,) 1/mm.
        omega: (F,) rad/ns.
    """
    diffusivity, wave, above = _medium(scattering, absorption, omega)
    source = 1 / scattering
    off_axis = RADIUS**2 / 2
    near = ((depth - source).square() + off_axis).sqrt()
    far = ((depth + source + above).square() + off_axis).sqrt()
    field = _wave(wave, near) - _wave(wave, far)
    return field / (4 * torch.pi * diffusivity).unsqueeze(-1)


def to_surface(depth: Tensor, scattering: Tensor, absorption: Tensor, omega: Tensor) -> Tensor:
    """Spectrum (B, F) of the light that leaves the surface above an isotropic point source, per unit and
    area.

    The arguments are those of `to_target`.
    """
    _, wave, above = _medium(scattering, absorption, omega)
    image = depth + above
    field = sum((wave + 1 / r[:, None]) * torch.exp(-wave * r[:, None]) / r[:, None] for r in (depth, image))
    assert isinstance(field, Tensor)
    return field / (4 * torch.pi)


def _medium(scattering: Tensor, absorption: Tensor, omega: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Diffusivity D (B,) in mm, wave number (B, F), and twice the height of the extrapolated plane (B,)."""
    diffusivity = 1 / (3 * scattering)
    loss = absorption.unsqueeze(-1) + 1j * omega / speed(INDEX)
    wave = (loss / diffusivity.unsqueeze(-1)).sqrt()
    return diffusivity, wave, 4 * mismatch(INDEX) * diffusivity


def _wave(wave: Tensor, distance: Tensor) -> Tensor:
    return torch.exp(-wave * distance.unsqueeze(-1)) / distance.unsqueeze(-1)
