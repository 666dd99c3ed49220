"""Parameters and FLOPs against formulas."""

from functools import partial

import pytest
import torch
from collegium import Context, MoE, experts, inspection, record
from collegium.routers import (
    AllExperts,
    ExpertChoice,
    FixedPlusRouted,
    Hash,
    Random,
    RandomPartition,
    Recurrent,
    Router,
    TopK,
    TopP,
    WholeSegment,
)
from torch import nn

D, E, H = 8, 4, 12


def mlp(activation: str = "gelu") -> experts.MLP:
    return experts.MLP(D, E, hidden=H, activation=activation)


ONE = 2 * D * H
GATE = D * E


@pytest.mark.parametrize(
    ("router", "active"),
    [
        (TopK(D, E, k=1), GATE + ONE),
        (TopK(D, E, k=3), GATE + 3 * ONE),
        (ExpertChoice(D, E, k=2), GATE + 2 * ONE),
        (AllExperts(D, E), GATE + E * ONE),
        (TopP(D, E), GATE + E * ONE),  # varies: counts with all, unless told what it ran
        (Random(D, E, k=2), 2 * ONE),
        (Random(D, E, k=2).eval(), E * ONE),
        (RandomPartition(D, E), ONE),
        (RandomPartition(D, E).eval(), E * ONE),
        (Hash(D, E), ONE),
        (WholeSegment(D, E, partial(TopK, k=1)), GATE + ONE),
        (WholeSegment(D, E, TopP), GATE + E * ONE),
        (FixedPlusRouted(D, E, fixed=1, router=Hash), 2 * ONE),
        (FixedPlusRouted(D, E, fixed=1, router=partial(WholeSegment, router=Hash)), 2 * ONE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Router) else "",
)
def test_active_parameters_follow_k(router: Router, active: int) -> None:
    total = sum(p.numel() for p in router.parameters()) + E * ONE
    assert inspection.parameters(MoE(router, mlp())) == (active, total)


def test_what_is_not_an_expert_is_active() -> None:
    shared = experts.Shared(nn.Linear(D, D), D)
    net = nn.Sequential(nn.Linear(D, D), MoE(TopK(D, E, k=1), mlp("swiglu"), shared), nn.LayerNorm(D))
    dense = D * D + D + GATE + D * D + D + D + 2 * D
    assert inspection.parameters(net) == (dense + 3 * D * H, dense + E * 3 * D * H)


def test_recorded_routings_tell_how_many_experts_ran() -> None:
    layer, x = MoE(TopP(D, E, p=0.6), mlp()), 4 * torch.randn(50, D)
    mask = torch.arange(50) < 30
    with record(layer) as routings:
        layer(x)
        layer(x, Context(mask=mask))
    mean = sum(int(r.experts_per_token().sum()) for r in routings[""]) / 80
    assert 1 < mean < E
    assert inspection.parameters(layer, routings) == (round(GATE + mean * ONE), GATE + E * ONE)


def test_recorded_routings_tell_which_experts_ran() -> None:
    """A token that goes to a zero expert uses no expert's parameters."""
    layer = MoE(
        Hash(D, E),
        experts.ExpertGroups([experts.MLP(D, 1, hidden=H), experts.Zero(1), experts.Constant(D, 2)]),
    )
    label = torch.arange(40)
    with record(layer) as routings:
        _, routing = layer(torch.randn(40, D), Context(label=label), return_routing=True)
    first, zero, *constant = (routing.counts / 40).tolist()
    assert first > 0
    assert zero > 0
    active = first * ONE + sum(constant) * 3 * D
    assert inspection.parameters(layer, routings) == (round(active), ONE + 2 * 3 * D)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # grouped product, loop
@pytest.mark.parametrize("tokens", [10, 2000])  # grouped product, loop
@pytest.mark.parametrize(("activation", "matrices"), [("gelu", 2), ("swiglu", 3)])
def test_flops_are_those_of_the_rows_that_run(
    dtype: torch.dtype, tokens: int, activation: str, matrices: int
) -> None:
    layer = MoE(TopK(D, E, k=2), mlp(activation)).to(dtype)
    x = torch.randn(tokens, D, dtype=dtype)
    assert inspection.flops(layer, x) == 2 * tokens * (GATE + 2 * matrices * D * H)


def test_flops_of_equal_rows_and_of_dense_dispatch() -> None:
    x = torch.randn(10, D)
    assert inspection.flops(MoE(AllExperts(D, E), mlp()), x) == 2 * 10 * (GATE + E * ONE)
    mixing = 2 * 10 * E * D
    assert inspection.flops(MoE(TopK(D, E), mlp(), dispatch="dense"), x) == 2 * 10 * (GATE + E * ONE) + mixing


def test_flops_follow_the_input() -> None:
    layer, x = MoE(TopP(D, E, p=0.5), mlp()), torch.randn(64, D)
    for scale in (0.01, 100.0):
        rows = int(layer.router(scale * x).row_counts().sum())
        assert inspection.flops(layer, scale * x) == 2 * (64 * GATE + rows * ONE)


def test_flops_take_keyword_arguments_and_inputs_with_gradient() -> None:
    layer, x = MoE(TopK(D, E, k=1), mlp()), torch.randn(9, D, requires_grad=True)
    mask = torch.arange(9) < 4
    assert inspection.flops(layer, x, context=Context(mask=mask)) == 2 * (9 * GATE + 4 * ONE)


def test_a_recurrent_router_runs_what_the_one_inside_chooses() -> None:
    router = Recurrent(D, E, state_dim=2, router=partial(TopK, k=1))
    own = sum(p.numel() for p in router.parameters())
    assert inspection.parameters(MoE(router, mlp())) == (own + ONE, own + E * ONE)


def test_a_block_that_two_layers_hold_counts_once() -> None:
    block = mlp()
    model = nn.ModuleList([MoE(TopK(D, E, k=k), block) for k in (1, 2)])
    assert inspection.parameters(model) == (2 * GATE + 2 * ONE, 2 * GATE + E * ONE)


def test_flops_take_inputs_with_gradient_inside_containers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(D, D)

        def forward(self, batch: dict[str, list[torch.Tensor]]) -> torch.Tensor:
            return self.map(batch["x"][0])

    x = torch.randn(3, D, requires_grad=True)
    assert inspection.flops(Net(), {"x": [x]}) == 2 * 3 * D * D
