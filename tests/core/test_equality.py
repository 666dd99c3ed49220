"""Every router with every block of experts equals the plain sum over assignments, in values and gradients."""

from collections.abc import Sequence
from math import prod

import pytest
import torch
from collegium import Context, MoE
from collegium.experts import NormAct
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.core.blocks import EXPERTS, ROUTERS, context_for, doubles, examples, item_of
from tests.core.reference import plain_moe


def layers(router: str, block: str, dim: int, num_experts: int) -> dict[str, MoE]:
    """The same router and experts in both dispatches."""
    experts = EXPERTS[block](dim, num_experts).double()
    choose = ROUTERS[router](prod(item_of(experts, dim)), num_experts).double()
    return {dispatch: MoE(choose, experts, dispatch=dispatch) for dispatch in ("auto", "dense")}


def by_itself(layer: MoE) -> None:
    """Batch norm looks at other rows in training, which no plain sum does: see experts/test_norm_act.py."""
    for module in layer.modules():
        if isinstance(module, NormAct):
            module.eval()


def gradients(loss: Tensor, of: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if not loss.requires_grad:
        return tuple(torch.zeros_like(t) for t in of)
    return torch.autograd.grad(loss, of, retain_graph=True, materialize_grads=True)


@pytest.mark.parametrize("router", ROUTERS)
@examples(8)
@given(
    tokens=st.integers(0, 9),
    num_experts=st.integers(2, 5),
    dim=st.integers(1, 7),
    masked=st.booleans(),
    training=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_both_dispatches_equal_the_plain_sum(
    router: str, tokens: int, num_experts: int, dim: int, masked: bool, training: bool, seed: int
) -> None:
    for block in EXPERTS:
        torch.manual_seed(seed)
        pair = layers(router, block, dim, num_experts)
        for layer in pair.values():
            layer.train(training)
            by_itself(layer)
        x = doubles(tokens, *item_of(pair["auto"].experts, dim))
        context = context_for(pair["auto"].router, pair["auto"].experts, (tokens,), masked)
        expect_plain_sum(pair, x, context, seed)


def expect_plain_sum(pair: dict[str, MoE], x: Tensor, context: Context, seed: int) -> None:
    of = [x, *pair["auto"].parameters()]
    for layer in pair.values():
        torch.manual_seed(seed)  # the same draws in training
        y, routing = layer(x, context, return_routing=True)
        plain = plain_moe(x, routing, layer.experts, y.shape[1:])
        torch.testing.assert_close(y, plain)
        upstream = torch.randn_like(y)
        found, wanted = gradients((y * upstream).sum(), of), gradients((plain * upstream).sum(), of)
        for gradient, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("block", EXPERTS)
def test_gradients_of_gradients_are_those_of_dense_dispatch(block: str) -> None:
    torch.manual_seed(0)
    pair = layers("TopK", block, 4, 3)
    x = doubles(5, *item_of(pair["auto"].experts, 4))
    penalties = []
    for layer in pair.values():
        by_itself(layer)
        (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        of = [x, *layer.parameters()]
        penalties.append(torch.autograd.grad(slope.square().sum(), of, materialize_grads=True))
    assert penalties[0][0].any() or block == "Zero"
    for found, wanted in zip(*penalties, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("block", EXPERTS)
@pytest.mark.parametrize("router", ROUTERS)
def test_autocast_to_bfloat16_stays_close_and_finite(router: str, block: str) -> None:
    torch.manual_seed(0)
    experts = EXPERTS[block](8, 4)
    layer = MoE(ROUTERS[router](prod(item_of(experts, 8)), 4), experts).eval()
    x = torch.randn(3, 6, *item_of(experts, 8), requires_grad=True)
    context = context_for(layer.router, experts, (3, 6))
    exact, plan = layer(x, context, return_routing=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, routing = layer(x, context, return_routing=True)
        loss = y.float().square().sum()
    assert torch.equal(plan.expert, routing.expert)
    torch.testing.assert_close(y.float(), exact, atol=0.05, rtol=0.05)
    for gradient in gradients(loss, [x, *layer.parameters()]):
        assert gradient.isfinite().all()
