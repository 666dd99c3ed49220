"""Diffusion theory and the surface of tissue."""

import math

import pytest
import torch

from apps.lidar import diffusion
from apps.lidar.optics import fresnel, mismatch, speed


def test_light_straight_at_the_surface_is_reflected_by_the_textbook_share() -> None:
    assert fresnel(torch.ones(1), 1.5).item() == pytest.approx(0.04)
    critical = math.sqrt(1 - 1 / 1.5**2)
    beyond, before = fresnel(torch.tensor([critical - 0.01, critical + 0.01]), 1.5).tolist()
    assert beyond == 1.0
    assert before < 0.7
    assert (fresnel(torch.linspace(0.1, 1, 9), 1.0).abs() < 1e-9).all()


def test_the_mismatch_is_that_of_the_literature() -> None:
    """Effective reflection 0.431 at 1.33 and 0.493 at 1.4 (Haskell et al. 1994, table 2)."""
    for index, reflection in ((1.33, 0.431), (1.4, 0.493)):
        assert mismatch(index) == pytest.approx((1 + reflection) / (1 - reflection), rel=5e-3)
    assert mismatch(1.0) == 1.0


def in_time(
    depth: float, scattering: float, absorption: float, time: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Light at a target and back as functions of time: heat kernels of a source and its image."""
    spread = 4 * speed() * time / (3 * scattering)
    source, above = 1 / scattering, 4 * mismatch() / (3 * scattering)
    off = diffusion.RADIUS**2 / 2
    decay = torch.exp(-absorption * speed() * time) * (torch.pi * spread) ** -1.5
    near, far = ((depth - source) ** 2 + off, (depth + source + above) ** 2 + off)
    there = speed() * decay * (torch.exp(-near / spread) - torch.exp(-far / spread))
    back = sum(r * torch.exp(-(r**2) / spread) for r in (depth, depth + above)) * decay / (2 * time)
    return there, back


@pytest.mark.parametrize(
    ("depth", "scattering", "absorption"), [(2.0, 1.0, 0.01), (6.0, 0.6, 0.03), (9.0, 1.4, 0.002)]
)
def test_the_spectra_are_those_of_the_time_domain_formulas(
    depth: float, scattering: float, absorption: float
) -> None:
    step = 2e-4
    time = torch.arange(step / 2, 40, step, dtype=torch.float64)
    omega = torch.tensor([0.0, 1.0, 5.0, 20.0], dtype=torch.float64)
    scene = [torch.tensor([value], dtype=torch.float64) for value in (depth, scattering, absorption)]
    turning = torch.exp(-1j * omega[:, None] * time)
    for light, spectrum in zip(
        in_time(depth, scattering, absorption, time), (diffusion.to_target, diffusion.to_surface), strict=True
    ):
        found = spectrum(*scene, omega)[0]
        torch.testing.assert_close(
            found, turning @ light.to(found.dtype) * step, rtol=2e-3, atol=float(found[0].abs()) * 1e-3
        )


def test_light_comes_later_from_deeper_and_from_more_scattering() -> None:
    depth = torch.tensor([2.0, 4.0, 8.0, 4.0], dtype=torch.float64)
    scattering = torch.tensor([1.0, 1.0, 1.0, 1.5], dtype=torch.float64)
    omega = torch.tensor([0.0, 1e-3], dtype=torch.float64)
    for spectrum in (diffusion.to_target, diffusion.to_surface):
        found = spectrum(depth, scattering, torch.full_like(depth, 0.01), omega)
        mean = -found[:, 1].angle() / 1e-3
        assert mean[0] < mean[1] < mean[2]
        assert mean[1] < mean[3]
