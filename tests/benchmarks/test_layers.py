"""What is timed computes the same thing, at the same cost."""

import pytest
import torch
from collegium import MoE
from torch import nn

from benchmarks.contestants import CONTESTANTS, PEERS
from benchmarks.grid import FULL, QUICK, Point
from benchmarks.layers import CannotRunError, Floor, Loop, collegium, dense, input_shape
from benchmarks.peers import _installed

POINT = Point(1024, 8, 4, 2)


def test_the_grid_is_the_one_that_was_agreed_on() -> None:
    assert len(set(FULL)) == 32
    assert set(QUICK) <= set(FULL)
    assert all(Point.parse(point.name) == point for point in FULL)
    assert {point.rows for point in FULL if point.name == "N8192-d256-E8-k2"} == {2048}


@pytest.mark.parametrize("name", ["dense", "floor", "collegium", "loop"])
def test_a_layer_keeps_the_shape_of_its_input(name: str) -> None:
    layer = CONTESTANTS[name](POINT)
    shape = input_shape(layer, POINT)
    assert layer(torch.randn(shape)).shape == shape


def test_active_compute_is_equal() -> None:
    sizes = {build: sum(p.numel() for p in build(POINT).parameters()) for build in (dense, Floor)}
    assert sizes[dense] == POINT.active_params
    assert sizes[Floor] * POINT.k == POINT.active_params * POINT.experts
    rows = torch.Size(input_shape(Floor(POINT), POINT)).numel() // POINT.width
    assert rows == POINT.tokens * POINT.k


def test_loop_and_library_compute_the_same() -> None:
    loop, layer = Loop(POINT), collegium(POINT)
    assert isinstance(layer, MoE)
    with torch.no_grad():
        layer.router.gate.weight.copy_(loop.gate.weight)
        for e, expert in enumerate(loop.experts):
            assert isinstance(expert, nn.Sequential)
            layer.experts.up[e] = expert[0].weight.T
            layer.experts.down[e] = expert[2].weight.T
    x = torch.randn(1, POINT.tokens, POINT.width)
    torch.testing.assert_close(layer(x), loop(x), atol=1e-5, rtol=1e-4)


def test_a_library_that_is_not_there_is_left_out_with_a_reason() -> None:
    with pytest.raises(CannotRunError, match="no-such-library is not installed"):
        _installed("no-such-library")
    assert "collegium" not in PEERS
