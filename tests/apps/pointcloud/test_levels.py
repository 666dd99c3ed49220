"""Curves, neighbours, patches and coarser grids, beside their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from apps.pointcloud.around import around
from apps.pointcloud.curves import CURVES, hilbert, z_order
from apps.pointcloud.levels import AROUND, Level, runs
from tests.core.blocks import examples

CUBE = torch.cartesian_prod(*[torch.arange(8)] * 3)


def clouds(seed: int, number: int = 3, wide: int = 6) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(seed)
    cells = [np.unique(random.integers(0, wide, (40, 3)), axis=0) for _ in range(number)]
    cloud = np.repeat(np.arange(number), [len(cell) for cell in cells])
    return torch.from_numpy(np.concatenate(cells)), torch.from_numpy(cloud)


def test_the_z_order_takes_bits_in_turn() -> None:
    cell = torch.tensor([[0b101, 0b011, 0b110]])
    assert z_order(cell).tolist() == [0b101_011_110]
    cell = torch.tensor([[0b10, 0b01, 0b11]])
    assert z_order(cell).tolist() == [0b101_011]


@pytest.mark.parametrize("curve", CURVES)
def test_a_curve_goes_through_every_cell_once(curve: object) -> None:
    place = curve(CUBE)  # type: ignore[operator]
    assert sorted(place.tolist()) == list(range(512))


def test_each_step_along_the_hilbert_curve_is_to_an_adjoining_cell() -> None:
    order = torch.argsort(hilbert(CUBE))
    assert (CUBE[order].diff(dim=0).abs().sum(1) == 1).all()
    far = torch.argsort(hilbert(CUBE + 4096))
    assert (CUBE[far].diff(dim=0).abs().sum(1) == 1).all()


@examples(20)
@given(seed=st.integers(0, 2**16))
def test_who_lies_beside_whom(seed: int) -> None:
    cell, cloud = clouds(seed)
    beside = Level(cell, cloud, 8).beside()
    place = {(int(c), *map(int, x)): t for t, (c, x) in enumerate(zip(cloud, cell, strict=True))}
    for step, row in zip(AROUND.tolist(), beside.tolist(), strict=True):
        for t, (own, found) in enumerate(zip(cell.tolist(), row, strict=True)):
            wanted = (int(cloud[t]), *(a + b for a, b in zip(own, step, strict=True)))
            assert found == place.get(wanted, len(cell))
    assert beside[13].tolist() == list(range(len(cell)))


@examples(20)
@given(seed=st.integers(0, 2**16), size=st.integers(1, 30), curve=st.integers(0, 7))
def test_patches_hold_every_cell_once_and_no_two_clouds(seed: int, size: int, curve: int) -> None:
    cell, cloud = clouds(seed)
    patches = Level(cell, cloud, size).patches(curve)
    there = patches[patches >= 0]
    assert sorted(there.tolist()) == list(range(len(cell)))
    for patch in patches:
        own = patch[patch >= 0]
        assert len(set(cloud[own].tolist())) == 1
        place = CURVES[curve % 4](cell[own])
        assert (place.diff() > 0).all()
    assert len(patches) == sum(-(-int(n) // size) for n in torch.bincount(cloud))


def test_runs_by_hand() -> None:
    order = torch.tensor([2, 0, 1, 5, 3, 4])
    assert runs(order, torch.tensor([3, 3]), 2).tolist() == [[2, 0], [1, -1], [5, 3], [4, -1]]


def test_a_coarser_cell_holds_those_of_its_cloud() -> None:
    cell, cloud = clouds(1)
    coarse, of = Level(cell, cloud, 8).coarser()
    assert torch.equal(coarse.cell[of], cell >> 1)
    assert torch.equal(coarse.cloud[of], cloud)
    assert len({(int(c), *x.tolist()) for c, x in zip(coarse.cloud, coarse.cell, strict=True)}) == len(
        coarse.cell
    )
    assert (coarse.cloud.diff() >= 0).all()


def test_a_convolution_is_the_sum_over_the_cells_around() -> None:
    cell, cloud = clouds(2)
    beside = Level(cell, cloud, 8).beside()
    x, weight = torch.randn(len(cell), 3, dtype=torch.double), torch.randn(27, 3, dtype=torch.double)
    wanted = torch.zeros_like(x)
    for step in range(27):
        for t, other in enumerate(beside[step].tolist()):
            if other < len(cell):
                wanted[t] += weight[step] * x[other]
    torch.testing.assert_close(around(x, weight, beside), wanted)


def test_its_gradients_hold_against_differences() -> None:
    cell, cloud = clouds(3, number=2, wide=3)
    beside = Level(cell, cloud, 8).beside()
    x = torch.randn(len(cell), 2, dtype=torch.double, requires_grad=True)
    weight = torch.randn(27, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: around(a, b, beside), (x, weight))
