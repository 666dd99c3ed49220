"""Grouped products: each way of running them against a plain loop, and their gradients numerically."""

from typing import Any

import pytest
import torch
from collegium.dispatch import grouped_mlp
from collegium.dispatch.activations import ACTIVATIONS
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from tests.core.blocks import doubles, examples
from tests.core.reference import ACTIVATIONS as PLAIN


def weights(E: int, D: int, H: int, O: int, activation: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:  # noqa: E741
    up = torch.randn(E, D, ACTIVATIONS[activation].widen * H, dtype=dtype) / D**0.5
    down = torch.randn(E, H, O, dtype=dtype) / H**0.5
    return up.requires_grad_(), down.requires_grad_()


def loop(x: Tensor, counts: Tensor, up: Tensor, down: Tensor, activation: str) -> Tensor:
    parts = enumerate(x.split(counts.tolist()))
    return torch.cat([PLAIN[activation](part @ up[e]) @ down[e] for e, part in parts])


class Operators(TorchDispatchMode):
    """Remembers the names of the operators that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@examples(12)
@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    dim=st.integers(1, 5),
    hidden=st.integers(1, 5),
    out=st.integers(1, 5),
    seed=st.integers(0, 2**16),
)
def test_equals_a_loop_in_float64(
    activation: str, counts: list[int], dim: int, hidden: int, out: int, seed: int
) -> None:
    torch.manual_seed(seed)
    up, down = weights(len(counts), dim, hidden, out, activation, torch.float64)
    x, rows = doubles(sum(counts), dim), torch.tensor(counts)
    expect_equal_values_and_gradients(x, rows, up, down, activation)


# rows an expert, width, hidden, dtype -> whether torch's grouped product runs
WAYS = {
    "few rows": ([3, 0, 5, 1], 8, 12, torch.float32, True),
    "few rows, odd width": ([3, 0, 5, 1], 7, 12, torch.float32, False),
    "few rows, odd hidden": ([3, 0, 5, 1], 8, 10, torch.float32, False),
    "many rows": ([900, 0, 400, 700], 8, 1100, torch.float32, False),
    "many rows, odd width": ([900, 0, 400, 700], 3, 5, torch.float32, False),
    "no rows": ([0, 0], 8, 12, torch.float32, False),
    "bfloat16": ([3, 0, 5, 1], 16, 8, torch.bfloat16, True),
    "bfloat16, width of 4": ([3, 0, 5, 1], 4, 8, torch.bfloat16, False),
    "float64": ([3, 0, 5, 1], 8, 12, torch.float64, False),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_equals_a_loop(way: str, activation: str) -> None:
    counts, dim, hidden, dtype, grouped = WAYS[way]
    up, down = weights(len(counts), dim, hidden, dim, activation, dtype)
    x = torch.randn(sum(counts), dim, dtype=dtype, requires_grad=True)
    with Operators() as operators:
        expect_equal_values_and_gradients(x, torch.tensor(counts), up, down, activation)
    assert ("_grouped_mm" in operators.names) == grouped


def expect_equal_values_and_gradients(
    x: Tensor, counts: Tensor, up: Tensor, down: Tensor, activation: str
) -> None:
    inputs = (x, up, down)
    exact = [t.detach().double().requires_grad_() for t in inputs]
    y, wanted = (
        grouped_mlp(x, counts, up, down, activation),
        loop(exact[0], counts, *exact[1:], activation),
    )
    loose = {"atol": 0.1, "rtol": 0.05} if x.dtype == torch.bfloat16 else {}
    assert y.dtype == x.dtype
    torch.testing.assert_close(y, wanted.to(x.dtype), **loose)
    upstream = torch.randn_like(y)
    found = torch.autograd.grad(y, inputs, upstream)
    for gradient, plain in zip(found, torch.autograd.grad(wanted, exact, upstream.double()), strict=True):
        torch.testing.assert_close(gradient, plain.to(x.dtype), **(loose or {"atol": 1e-4, "rtol": 1e-4}))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("counts", [torch.tensor([2, 0, 3]), 2])
def test_first_and_second_derivatives_are_right(activation: str, counts: Tensor | int) -> None:
    up, down = weights(3, 2, 3, 2, activation, torch.float64)
    x = doubles(5 if isinstance(counts, Tensor) else 6, 2)

    def run(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
        return grouped_mlp(x, counts, up, down, activation)

    assert gradcheck(run, (x, up, down))
    assert gradgradcheck(run, (x, up, down))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_gradients_are_right_where_only_some_are_wanted(wanted: tuple[int, ...]) -> None:
    counts = torch.tensor([2, 0, 3])
    inputs = [doubles(5, 2), *weights(3, 2, 3, 2, "gelu", torch.float64)]
    inputs = [t if i in wanted else t.detach() for i, t in enumerate(inputs)]
    assert gradcheck(lambda *t: grouped_mlp(t[0], counts, t[1], t[2], "gelu"), inputs)
    assert gradgradcheck(lambda *t: grouped_mlp(t[0], counts, t[1], t[2], "gelu"), inputs)


def test_create_graph_gives_the_same_first_gradient() -> None:
    counts, x = torch.tensor([2, 0, 3]), torch.randn(5, 8, requires_grad=True)
    inputs = (x, *weights(3, 8, 4, 8, "swiglu", torch.float32))
    y = grouped_mlp(x, counts, *inputs[1:], "swiglu")
    upstream = torch.randn_like(y)
    plain = torch.autograd.grad(y, inputs, upstream, retain_graph=True)
    again = torch.autograd.grad(y, inputs, upstream, create_graph=True)
    for found, wanted in zip(again, plain, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("rows", [3, 300])
def test_idle_experts_get_a_gradient_of_zeros(rows: int) -> None:
    up, down = weights(3, 8, 4, 8, "gelu", torch.float32)
    grouped_mlp(torch.randn(rows, 8), torch.tensor([0, rows, 0]), up, down, "gelu").sum().backward()
    for weight in (up, down):
        assert weight.grad[1].any()
        assert not weight.grad[[0, 2]].any()


@pytest.mark.parametrize("rows", [3, 300])
def test_strided_rows_and_gradients_are_taken(rows: int) -> None:
    """Columns of a wider tensor, and the expanded gradient of a plain sum."""
    up, down = weights(3, 8, 4, 8, "gelu", torch.float32)
    counts = torch.tensor([rows, 0, rows])
    wide = torch.randn(2 * rows, 17)
    y = grouped_mlp(wide[:, 1:9], counts, up, down, "gelu")
    torch.testing.assert_close(y, grouped_mlp(wide[:, 1:9].contiguous(), counts, up, down, "gelu"))
    pair = up[:2], down[:2]
    even = grouped_mlp(wide[:, 1:9], torch.tensor([rows, rows]), *pair, "gelu")
    torch.testing.assert_close(grouped_mlp(wide[:, 1:9], rows, *pair, "gelu"), even)
    (found,) = torch.autograd.grad(y.sum(), up)
    (wanted,) = torch.autograd.grad(loop(wide[:, 1:9], counts, up, down, "gelu").sum(), up)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", [3, 300])
@pytest.mark.parametrize("inside", [True, False])
def test_autocast_runs_in_bfloat16_forward_and_backward(rows: int, inside: bool) -> None:
    x, (up, down) = torch.randn(2 * rows, 8), weights(2, 8, 8, 8, "gelu", torch.float32)
    counts = torch.tensor([rows, rows])
    exact = torch.autograd.grad(grouped_mlp(x, counts, up, down, "gelu").sum(), (up, down))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = grouped_mlp(x, counts, up, down, "gelu")
        found = torch.autograd.grad(y.sum(), (up, down)) if inside else None
    found = found or torch.autograd.grad(y.sum(), (up, down))
    assert y.dtype == torch.bfloat16
    for gradient, wanted in zip(found, exact, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - wanted).norm() < 0.03 * wanted.norm()
