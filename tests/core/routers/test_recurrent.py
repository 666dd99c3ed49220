"""Recurrent: a state a token, from layer to layer, and a router of it."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from collegium import Context, MoE, Routing, experts
from collegium.gates import Conditioned, Residual
from collegium.routers import (
    DenseToSparse,
    FixedPlusRouted,
    Hash,
    Lookup,
    Random,
    RandomPartition,
    Recurrent,
    Router,
    SoftSlots,
    TopK,
    TopP,
    share_cells,
)
from torch import Tensor, nn

from tests.core.blocks import doubles, gradients_hold

D, E, R, T = 3, 4, 2, 6


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def times(matrix: Tensor, vector: list[float], bias: Tensor | None = None) -> list[float]:
    rows = matrix.tolist()
    added = [0.0] * len(rows) if bias is None else bias.tolist()
    return [
        sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(rows, added, strict=True)
    ]


def state_by_hand(router: Recurrent, x: Tensor, last: Tensor) -> Tensor:
    """(T, R): r, z = sigmoid(W e + U h), n = tanh(W e + r * U h), h' = (1 - z) n + z h, with e = V x."""
    cell, states = router.cell, []
    for token, h in zip(x.tolist(), last.tolist(), strict=True):
        entered = times(router.enter, token)
        w = times(cell.weight_ih, entered, cell.bias_ih)
        u = times(cell.weight_hh, h, cell.bias_hh)
        reset = [sigmoid(w[i] + u[i]) for i in range(R)]
        keep = [sigmoid(w[R + i] + u[R + i]) for i in range(R)]
        new = [math.tanh(w[2 * R + i] + reset[i] * u[2 * R + i]) for i in range(R)]
        states.append([(1 - keep[i]) * new[i] + keep[i] * h[i] for i in range(R)])
    return torch.tensor(states, dtype=torch.float64)


def recurrent(**options: object) -> Recurrent:
    return Recurrent(D, E, state_dim=R, **options).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("masked", [False, True])
def test_the_state_is_that_of_a_gated_unit_and_the_router_reads_it(masked: bool) -> None:
    router, x = recurrent(router=partial(TopK, k=2)), torch.randn(T, D).double()
    context = Context(mask=torch.arange(T) % 2 == 0) if masked else None
    previous, state = None, torch.zeros(T, R).double()
    for _ in range(3):
        previous = router(x, context, previous)
        state = state_by_hand(router, x, state)
        torch.testing.assert_close(previous.state, state)
        wanted = router.router(state, context).dense_weight()
        torch.testing.assert_close(previous.dense_weight(), wanted)
        x = x + 1


def test_the_state_threads_through_layers_and_those_between_them() -> None:
    layers = [MoE(recurrent(), experts.MLP(D, E, hidden=2).double()) for _ in range(3)]
    x, routing, state = torch.randn(2, 3, D).double(), None, torch.zeros(T, R).double()
    for layer in layers:
        state = state_by_hand(layer.router, x.view(-1, D), state)
        y, routing = layer(x, None, routing, return_routing=True)
        torch.testing.assert_close(routing.state, state)
        x = torch.tanh(x + y)


def test_a_cell_of_zeros_routes_all_tokens_alike() -> None:
    router, x = recurrent(router=partial(TopK, k=2)), torch.randn(50, D).double()
    assert len(router(x).dense_weight().unique(dim=0)) > 1
    for parameter in router.cell.parameters():
        nn.init.zeros_(parameter)
    first = router(x)
    assert len(first.dense_weight().unique(dim=0)) == 1
    assert not router(x, None, first).state.any()


def test_the_layer_before_matters_and_gets_gradient() -> None:
    router, x = recurrent(), torch.randn(T, D).double()
    first = recurrent()(x)
    assert not torch.allclose(router(x, None, first).probs, router(x).probs)
    weight = router(x, None, first).weight
    (gradient,) = torch.autograd.grad((weight * torch.randn_like(weight)).sum(), first.state)
    assert gradient.any(1).all()


def test_a_layer_before_without_a_state_is_a_first_layer() -> None:
    router, x = recurrent(), torch.randn(T, D).double()
    assert torch.equal(router(x, None, TopK(D, E).double()(x)).state, router(x).state)


class Stack(nn.Module):
    def __init__(self, *widths: int) -> None:
        super().__init__()
        block = partial(experts.MLP, D, E, hidden=2)
        self.layers = nn.ModuleList(MoE(Recurrent(D, E, state_dim=width), block()) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        routing: Routing | None = None
        for layer in self.layers:
            y, routing = layer(x, None, routing, return_routing=True)
            x = x + y
        return x


def test_one_cell_serves_all_layers() -> None:
    model = Stack(R, R, R)
    before = sum(p.numel() for p in model.parameters())
    cells = [layer.router.cell for layer in model.layers]
    share_cells(model)
    assert all(layer.router.cell is cells[0] for layer in model.layers)
    assert before - sum(p.numel() for p in model.parameters()) == 2 * sum(
        p.numel() for p in cells[0].parameters()
    )
    model(torch.randn(20, D)).square().sum().backward()
    assert cells[0].weight_hh.grad.any()
    assert cells[1].weight_hh.grad is None


def test_states_of_other_widths_keep_cells_of_their_own() -> None:
    model = Stack(R, R + 1, R)
    share_cells(model)
    first, second, third = (layer.router.cell for layer in model.layers)
    assert first is third
    assert first is not second


@pytest.mark.parametrize("inner", [partial(TopK, k=2), partial(TopP, p=0.6)])
def test_gradients_are_those_of_differences(inner: partial[TopK]) -> None:
    router = recurrent(router=inner)
    assert gradients_hold(router, doubles(4, D))
    previous = recurrent()(torch.randn(4, D).double())
    assert gradients_hold(router, doubles(4, D), previous=previous)
    assert gradients_hold(router, doubles(4, D), previous=previous, read=lambda routing: routing.state)


def test_it_needs_what_its_router_needs_and_hands_the_schedule_on() -> None:
    assert recurrent(router=partial(TopK, gate=partial(Conditioned, by="task"))).needs == ("task",)
    router = recurrent(router=DenseToSparse)
    router.anneal(1.0)
    assert (router(torch.randn(T, D)).experts_per_token() == 1).all()


def test_a_state_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Recurrent wants a state of at least width 1$"):
        Recurrent(D, E, state_dim=0)


@pytest.mark.parametrize(
    "inner",
    [
        *[Random, RandomPartition, Lookup, Hash],
        partial(FixedPlusRouted, router=Random),
        partial(TopK, gate=partial(Residual, gate=partial(Conditioned, use_token=False))),
    ],
)
def test_a_router_that_does_not_look_at_the_state_is_refused(inner: Callable[[int, int], Router]) -> None:
    with pytest.raises(ValueError, match=r"^Recurrent: \w+ does not look at the state.*such as TopK$"):
        Recurrent(D, E, router=inner)


@pytest.mark.parametrize(("width", "tokens"), [(R + 1, T), (R, T + 1)])
def test_a_state_of_another_shape_is_refused(width: int, tokens: int) -> None:
    before = Recurrent(D, E, state_dim=width)(torch.randn(tokens, D))
    words = rf"expects a state \({T}, {R}\) of the layer before, not \({tokens}, {width}\)$"
    with pytest.raises(ValueError, match=words):
        Recurrent(D, E, state_dim=R)(torch.randn(T, D), None, before)


def test_a_router_of_slots_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Recurrent needs a router that assigns tokens, not SoftSlots$"):
        Recurrent(D, E, router=SoftSlots)(torch.randn(T, D))
