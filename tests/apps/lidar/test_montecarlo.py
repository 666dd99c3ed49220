"""Wandering photons: against an independent program, against theory, and the tables made of them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.lidar import diffusion
from apps.lidar.instrument import Clock
from apps.lidar.montecarlo import RADIUS, Table, lambert, pencil, simulate, walk
from apps.lidar.optics import INDEX, speed
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges
from apps.lidar.simulate import signal
from apps.lidar.transport import FILE, WhiteMonteCarlo, make_tables
from tests.apps.lidar.test_simulate import scenes, seeded


def test_photons_go_as_far_as_exponential_steps_and_in_every_direction() -> None:
    number = 20_000
    steps = walk(pencil(number, 1.0, seeded()), 1.0, 1e9, seeded())
    place, path = next(steps)
    assert torch.equal(place[:, 2], path)
    assert path.mean().item() == pytest.approx(1, rel=0.03)
    place, path = next(steps)
    assert len(path) < number  # some have left


def test_light_that_may_not_leave_stays() -> None:
    """Far beyond the index of any tissue nearly all angles are reflected; without a mismatch none is."""
    kept = {}
    for index in (1.0, 50.0):
        steps = walk(pencil(5000, index, seeded()), index, 1e9, seeded())
        for _ in range(20):
            _, path = next(steps)
        kept[index] = len(path) / 5000
    assert kept[1.0] < 0.4
    assert kept[50.0] > 0.95


def test_light_from_everywhere_enters_within_the_cone_of_refraction() -> None:
    cosine = lambert(50_000, INDEX, seeded())[:, 2]
    assert cosine.min() > (1 - 1 / INDEX**2) ** 0.5 - 1e-3
    flat = lambert(50_000, 1.0, seeded())[:, 2]
    assert flat.square().mean().item() == pytest.approx(0.5, abs=0.01)  # cos^2 under Lambert's law


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tables") / "white.npz"
    make_tables(2000, seed=1, file=file)
    return file


def test_tables_are_a_function_of_their_seed(small: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        make_tables(2000, seed=seed, file=tmp_path / f"{seed}.npz")
    with np.load(small) as first, np.load(tmp_path / "1.npz") as same, np.load(tmp_path / "2.npz") as other:
        assert all((first[name] == same[name]).all() for name in first)
        assert not (first["pencil_matched"] == other["pencil_matched"]).all()


def test_a_spectrum_is_the_sum_over_paths(small: Path) -> None:
    """Each bin of paths is light between two times, less what is absorbed on the way."""
    clock = Clock(bins=128, width=0.016)
    white = WhiteMonteCarlo(clock, "matched", small)
    depth, scattering, absorption = (torch.tensor([v], dtype=torch.float64) for v in (2.75, 0.8, 0.3))
    row = int(torch.argmin((white.depth - 2.2).abs()))
    low, high = white.depth[row - 1 : row + 1] if white.depth[row] > 2.2 else white.depth[row : row + 2]
    share = (2.2 - low) / (high - low)
    first = int((white.depth == low).nonzero())
    light = torch.lerp(white.tables[0][first], white.tables[0][first + 1], share)
    middle = (white.edges[1:] + white.edges[:-1]) / 2
    time, length = middle / 0.8 / speed(), torch.diff(white.edges) / 0.8 / speed()
    light = light * torch.exp(-0.3 * middle / 0.8)
    turning = torch.exp(-1j * clock.omega[:20, None] * time) * torch.sinc(
        clock.omega[:20, None] * length / 2 / torch.pi
    )
    wanted = turning @ light.to(turning.dtype)
    found = white.spectrum(white.tables[0], depth, scattering, absorption)[0, :20]
    torch.testing.assert_close(found, wanted, atol=float(wanted[0].abs()) * 5e-3, rtol=0)


def test_late_light_goes_on_by_its_law(small: Path) -> None:
    white = WhiteMonteCarlo(Clock(), "mismatched", small)
    with np.load(small) as kept:
        known = kept["edges"]
    later = white.edges[len(known) - 1 :]
    density = white.tables[0][:, len(known) - 1 :].sum(0) / torch.diff(later)
    middle = (later[1:] * later[:-1]).sqrt()
    slope = torch.diff(density.log()) / torch.diff(middle.log())
    torch.testing.assert_close(slope, torch.full_like(slope, -2.5), atol=0.02, rtol=0)


@pytest.fixture(scope="module")
def deep() -> Table:
    return simulate(pencil, 400_000, INDEX, seed=3, longest=200.0)


def test_deep_down_it_is_diffusion(deep: Table) -> None:
    """Mean path of white light up to 200 lengths 11 to 16 transport lengths below, against theory."""
    middle = (deep.edges[1:] + deep.edges[:-1]).double() / 2
    rows = deep.depth > 11
    light = deep.fluence[rows].double().sum(0)
    found = float(light @ middle / light.sum())
    clock = Clock(bins=1024, width=2 * 200 / speed() / 1024, flash=0.0)
    there = diffusion.to_target(
        deep.depth[rows].double(),
        torch.ones(int(rows.sum())).double(),
        torch.zeros(int(rows.sum())).double(),
        clock.omega,
    )
    theory = clock.curve(there).sum(0)
    time = clock.centres
    inside = time * speed() < 200
    wanted = float((theory * time)[inside].sum() / theory[inside].sum() * speed())
    assert found == pytest.approx(wanted, rel=0.05)


def test_light_back_is_diffusion_deep_down() -> None:
    """Mean times of the tables of light that enters from everywhere, which is light back by reciprocity."""
    clock = Clock(bins=2048, width=0.01, flash=0.0)
    white = WhiteMonteCarlo(clock)
    depth = torch.tensor([11.0, 13.0, 15.0]).double()
    tissue = torch.ones(3).double(), torch.full((3,), 0.02).double()
    found = white.spectrum(white.tables[1], depth, *tissue)
    theory = diffusion.to_surface(depth, *tissue, clock.omega)
    means = []
    for spectrum in (found, theory):
        light = clock.curve(spectrum)
        means.append((light @ clock.centres) / light.sum(1))
    torch.testing.assert_close(means[0], means[1], rtol=0.06, atol=0)


def test_near_the_surface_diffusion_is_late(deep: Table) -> None:
    scene = scenes(depth=[3.0, 5.0], lifetime=0.3, response=0.1)
    clock = Clock()
    theory, truth = signal(scene, Rig()), signal(scene, Rig(), "monte_carlo")
    travel = [(light @ clock.centres - 0.3).tolist() for light in (theory, truth)]
    for late, right in zip(*travel, strict=True):
        assert 1.05 < late / right < 1.35


@pytest.fixture(scope="module")
def reference() -> tuple[np.ndarray, np.ndarray]:
    """Fluence by millimetre below the beam and time, and these times, by an independent program."""
    root = os.environ.get("COLLEGIUM_DATA")
    file = Path(root or "") / "lidar" / "mc_reference_fluence.npz"
    if not root or not file.is_file():
        pytest.skip(f"{file.name} is not below COLLEGIUM_DATA")
    with np.load(file) as kept:
        return kept["fluence_axis"].astype(float), kept["time_ns"]


@pytest.mark.data
def test_an_independent_program_finds_what_ships(reference: tuple[np.ndarray, np.ndarray]) -> None:
    """Mean times and levels of the light of the tables, in the tissue of the reference, deep enough that its
    voxels beside the axis see the same as the axis."""
    fluence, time = reference
    with np.load(FILE) as kept:
        table, edges = kept["pencil_mismatched"].astype(float), kept["edges"].astype(float)
    path = (edges[1:] + edges[:-1]) / 2
    early = path < 1.0 * speed()
    light = (table * np.exp(-0.005 * path))[:, early]
    by_depth = light.reshape(-1, 2, light.shape[1]).sum(1)[7:11]  # slices are half a millimetre high
    mean, level = by_depth @ path[early] / by_depth.sum(1) / speed(), by_depth.sum(1)
    np.testing.assert_allclose(mean, fluence[7:11] @ time / fluence[7:11].sum(1), rtol=0.06)
    shape = level / fluence[7:11].sum(1)
    np.testing.assert_allclose(shape / shape.mean(), 1, atol=0.1)


@pytest.mark.data
def test_an_independent_program_finds_the_same(reference: tuple[np.ndarray, np.ndarray]) -> None:
    """Fluence in the voxels beside the edge on which the beam of the reference stands."""
    fluence, time = reference
    generator, found = seeded(1), np.zeros((12, 2))
    number = 500_000
    for place, path in walk(pencil(number, INDEX, generator), INDEX, 1.0 * speed(), generator):
        here = (place[:, 0].abs() < 0.5) & (place[:, 1].abs() < 1) & (place[:, 2] < 12)
        weight = torch.exp(-0.005 * path[here]).numpy()
        row, when = place[here, 2].long().numpy(), (path[here] / speed()).numpy()
        found[:, 0] += np.bincount(row, weight, 12)
        found[:, 1] += np.bincount(row, weight * when, 12)
    mean = found[:, 1] / found[:, 0]
    wanted = fluence[:12] @ time / fluence[:12].sum(1)
    np.testing.assert_allclose(mean[2:8], wanted[2:8], rtol=0.05)
    np.testing.assert_allclose(mean[8:11], wanted[8:11], rtol=0.08)
    shape = found[:, 0] / fluence[:12].sum(1)
    np.testing.assert_allclose(shape[3:11] / shape[3:11].mean(), 1, atol=0.1)


def test_the_tables_that_ship_are_no_larger_than_they_need_be() -> None:
    assert FILE.stat().st_size < 200_000
    drawn = Ranges().draw(50, seeded())
    light = signal(drawn, Rig(), "monte_carlo")
    assert torch.isfinite(light).all()
    off = (light - signal(drawn, Rig())).abs().sum(1)
    assert off.max() < 0.5
    assert pytest.approx(0.564, abs=1e-3) == RADIUS
