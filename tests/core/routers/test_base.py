"""Every router passes the public checks; the gate keeps its precision."""

from functools import partial

import pytest
import torch
from collegium import Context, Routing, routers
from collegium.gates import Linear
from collegium.routers import Router
from collegium.routers.base import softmax
from collegium.slots import as_routing
from collegium.testing import check_router, random_context
from torch import Tensor

from tests.core.blocks import ROUTERS, RouterFactory, doubles, gradients_hold


def test_soft_slots_pass_check_router() -> None:
    check_router(routers.SoftSlots)
    check_router(partial(routers.SoftSlots, slots=3), num_experts=2, seed=1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("factory", ROUTERS.values(), ids=ROUTERS)
def test_gradients_of_the_weights_hold_against_differences(factory: RouterFactory, training: bool) -> None:
    torch.manual_seed(1)
    router, x = factory(4, 4).double().train(training), doubles(7, 4)
    context = random_context(router.needs, (7,))
    if router(x, context).weight.requires_grad:
        assert gradients_hold(router, x, context, seed=0)
    else:
        assert router.blind or not any(p.requires_grad for p in router.parameters())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("factory", ROUTERS.values(), ids=ROUTERS)
def test_every_router_passes_check_router(factory: RouterFactory, seed: int) -> None:
    check_router(factory, seed=seed)


@pytest.mark.parametrize("factory", ROUTERS.values(), ids=ROUTERS)
def test_without_drops_every_wish_is_a_row(factory: RouterFactory) -> None:
    router = factory(6, 4)
    routing = router(torch.randn(20, 6), random_context(router.needs, (20,)))
    if getattr(router, "capacity_factor", None) is None:
        assert torch.equal(routing.row_counts(), routing.demand)
    else:
        assert (routing.row_counts() <= routing.demand).all()


def test_a_module_in_bfloat16_scores_in_float32() -> None:
    routing = routers.TopK(6, 4).bfloat16()(torch.randn(20, 6).bfloat16())
    assert routing.logits.dtype == routing.probs.dtype == routing.weight.dtype == torch.float32


def test_autocast_does_not_round_the_scores() -> None:
    router, x = routers.TopK(6, 4), torch.randn(20, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = router(x).logits
    assert torch.equal(inside, router(x).logits)


@pytest.mark.parametrize("factory", ROUTERS.values(), ids=ROUTERS)
def test_a_router_that_looks_at_no_token_says_so(factory: RouterFactory) -> None:
    router = factory(6, 4).requires_grad_(False)
    x = torch.randn(12, 6, requires_grad=True)
    weight = as_routing(router(x, random_context(router.needs, (12,)))).weight
    assert router.blind is not weight.requires_grad


def test_a_router_of_ones_own_is_kept_in_float32_too() -> None:
    class Own(Router):
        def __init__(self, dim: int, num_experts: int) -> None:
            super().__init__(dim, num_experts)
            self.linear = torch.nn.Linear(dim, num_experts)

        def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
            logits = self.linear(x)
            return Routing.dense(
                logits.softmax(-1), mask=context.mask, logits=logits, probs=logits.softmax(-1)
            )

    check_router(Own)


def test_the_gate_is_a_matrix() -> None:
    gate, x = Linear(6, 4), torch.randn(5, 6)
    torch.testing.assert_close(gate(x, Context(), None), x @ gate.weight.T)


@pytest.mark.parametrize("shape", [(5, 3), (5, 40), (0, 3), (1, 1)])
def test_softmax_is_torchs(shape: tuple[int, int]) -> None:
    logits = 5 * doubles(*shape)
    upstream = torch.randn(shape, dtype=torch.float64)
    found, wanted = softmax(logits), torch.softmax(logits, 1)
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(probs, logits, upstream)[0] for probs in (found, wanted)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", ["TopK", "Random", "ExpertChoice"])
@pytest.mark.parametrize("k", [0, 5])
def test_k_beyond_the_experts_is_refused(name: str, k: int) -> None:
    with pytest.raises(ValueError, match=f"{name}: k={k} must lie between 1 and num_experts=4"):
        getattr(routers, name)(6, 4, k=k)
