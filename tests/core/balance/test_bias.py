"""Bias balancing: it evens the load without a loss, and touches nothing but the choice."""

from functools import partial
from typing import Any

import pytest
import torch
from collegium import MoE, balance, experts, record
from collegium.routers import FixedPlusRouted, Recurrent, Switch, TopK, TopP, WholeSegment
from torch import Tensor

E, K = 8, 2


def skewed_layer() -> MoE:
    """A layer whose logits are its input."""
    router = TopK(E, E, k=K, bias=True)
    torch.nn.init.eye_(router.gate.weight)
    return MoE(router, experts.Copy(E))


def simulate(rate: float, steps: int, tokens: int = 512) -> Tensor:
    """(steps, E) loads of tokens whose logits are skewed by expert, as balancing goes on."""
    layer = skewed_layer().requires_grad_(False)
    controller = balance.BiasBalance(layer, rate)
    skew = torch.randn(E, generator=torch.Generator().manual_seed(0))
    loads = []
    for _ in range(steps):
        routing = layer.router(skew + torch.randn(tokens, E))
        controller.observe(routing)
        controller.step()
        loads.append(routing.demand)
    return torch.stack(loads).double()


def unevenness(load: Tensor) -> Tensor:
    return load.max(-1).values / load.mean(-1)


def test_the_load_evens_out_over_time() -> None:
    load = simulate(rate=1e-3, steps=1500)
    assert unevenness(load[0]) > 2
    assert unevenness(load[-100:].sum(0)) < 1.05
    per_batch = unevenness(load[-100:]).mean()
    assert 1.05 < per_batch < 1.18  # sampling alone gives 1.118


def test_large_steps_oscillate() -> None:
    slow, fast = (unevenness(simulate(rate, steps=700)[-100:]).mean() for rate in (1e-3, 1e-2))
    assert fast > slow + 0.05


def test_one_step_moves_each_bias_towards_the_mean_load() -> None:
    layer = skewed_layer()
    controller = balance.BiasBalance(layer, rate=0.25)
    x = torch.eye(E)[[0, 0, 0, 1]] * 9  # most tokens want expert 0
    with record(layer) as routings:
        layer(x)
        layer(x)
    controller.observe(routings)
    demand = sum(routing.demand for routing in routings[""])
    controller.step()
    wanted = [0.25 * ((load < 2) - (load > 2)) for load in demand.tolist()]  # the mean is 16 / 8
    assert layer.router.bias.tolist() == wanted
    controller.step()  # nothing observed since: nothing moves
    assert layer.router.bias.tolist() == wanted


def test_micro_batches_count_together() -> None:
    x = torch.randn(90, E) + torch.arange(E)
    biases = []
    for parts in (x.chunk(3), [x]):
        layer = skewed_layer()
        controller = balance.BiasBalance(layer, rate=0.1)
        for part in parts:
            with record(layer) as routings:
                layer(part)
            controller.observe(routings)
        controller.step()
        biases.append(layer.router.bias)
    assert biases[0].any()
    assert torch.equal(*biases)


def test_no_gradient_passes_through_the_bias_or_into_the_router_by_it() -> None:
    layer, x = skewed_layer(), torch.randn(50, E)
    controller = balance.BiasBalance(layer, rate=0.3)
    for _ in range(5):
        with record(layer) as routings:
            layer(x)
        controller.observe(routings)
        controller.step()
    assert layer.router.bias.any()
    y, routing = layer(x, return_routing=True)
    probs = (x @ layer.router.gate.weight.T).softmax(-1)
    plain = (probs * (routing.dense_weight() > 0)).sum(1, keepdim=True) * x
    torch.testing.assert_close(y, plain)
    found, wanted = (
        torch.autograd.grad(out.square().sum(), layer.router.gate.weight)[0] for out in (y, plain)
    )
    torch.testing.assert_close(found, wanted)
    assert "router.bias" not in dict(layer.named_parameters())
    assert "router.bias" in layer.state_dict()


def test_biases_of_several_layers_move_by_their_own_loads() -> None:
    net = torch.nn.Sequential(skewed_layer(), skewed_layer(), torch.nn.Identity())
    controller = balance.BiasBalance(torch.compile(net), rate=1.0)
    with record(net) as routings:
        net(torch.randn(40, E) + 3 * torch.eye(E)[0])
    controller.observe(routings)
    controller.step()
    for layer, (routing,) in zip(net, routings.values(), strict=False):
        load = routing.demand.double()
        assert torch.equal(layer.router.bias.double(), torch.sign(load.mean() - load))


@pytest.mark.parametrize("router", [TopP(4, 3), TopK(4, 3), Switch(4, 3)])
def test_a_router_without_a_bias_is_refused(router: torch.nn.Module) -> None:
    net = torch.nn.Sequential(MoE(TopK(4, 3, bias=True), experts.Copy(3)), MoE(router, experts.Copy(3)))
    with pytest.raises(ValueError, match=f"1: {type(router).__name__} has no selection bias"):
        balance.BiasBalance(net)


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no MoE layer to balance"):
        balance.BiasBalance(torch.nn.Linear(2, 2))


def test_routings_of_another_model_are_refused() -> None:
    controller = balance.BiasBalance(torch.nn.Sequential(skewed_layer()))
    with pytest.raises(ValueError, match="the model has no MoE layer ''"):
        controller.observe(skewed_layer().router(torch.randn(3, E)))


def test_biases_rest_at_the_end_of_training() -> None:
    layer = skewed_layer()
    controller = balance.BiasBalance(layer, rate=0.01, rest=0.03)
    for progress, moves in ((0.5, True), (0.969, True), (0.97, False), (1.0, False)):
        before = layer.router.bias.clone()
        controller.observe(layer.router(torch.randn(50, E) + torch.arange(E)))
        controller.step(progress)
        assert torch.equal(layer.router.bias, before) != moves


BIASED = partial(TopK, k=1, bias=True)


@pytest.mark.parametrize(
    "outer",
    [
        partial(Recurrent, state_dim=3, router=BIASED),
        partial(WholeSegment, router=BIASED),
        partial(FixedPlusRouted, fixed=2, router=BIASED),
        partial(FixedPlusRouted, router=partial(Recurrent, router=BIASED)),
    ],
)
def test_the_bias_of_a_router_inside_another_moves_by_the_load_of_its_experts(outer: Any) -> None:
    router = outer(4, 5)
    layer = MoE(router, experts.Copy(5))
    controller = balance.BiasBalance(layer, rate=1.0)
    with record(layer) as routings:
        layer(torch.randn(6, 7, 4))
    controller.observe(routings)
    controller.step()
    load = routings[""][0].demand[getattr(router, "fixed", 0) :].double()
    assert load.unique().numel() > 1
    assert torch.equal(router.bias.double(), torch.sign(load.mean() - load))
