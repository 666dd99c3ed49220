"""DSelectK: a smooth step, selectors by binary codes, sparsity in the end."""

import math
from functools import partial

import pytest
import torch
from collegium import Context
from collegium.routers import DSelectK
from collegium.routers.smooth import fold, smooth_step
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold


def step_by_hand(z: float, gamma: float) -> float:
    if z <= -gamma / 2:
        return 0.0
    if z >= gamma / 2:
        return 1.0
    return -2 * z**3 / gamma**3 + 3 * z / (2 * gamma) + 1 / 2


def by_hand(router: DSelectK, x: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """(T, k, E) selectors and (T, E) weights, code by code and bit by bit."""
    k, E = router.selectors, router.num_experts
    bits = max(1, math.ceil(math.log2(E)))
    V = router.bits.weight.view(k, bits, -1)
    selectors, weights = [], []
    for token in x:
        mass = [[0.0] * E for _ in range(k)]
        for i in range(k):
            for code in range(2**bits):
                chance = 1.0
                for b in range(bits):
                    s = step_by_hand(float((V[i, b] @ token).detach()), gamma)
                    chance *= s if code >> b & 1 else 1 - s
                mass[i][code % E] += chance
        share = [1.0] if k == 1 else (router.share.weight @ token).softmax(0).tolist()
        selectors.append(mass)
        weights.append([sum(share[i] * mass[i][e] for i in range(k)) for e in range(E)])
    return torch.tensor(selectors, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)


def scaled(router: DSelectK, factor: float) -> DSelectK:
    router.bits.weight.data.mul_(factor)
    return router


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_the_step_is_a_cubic_between_zero_and_one(gamma: float) -> None:
    z = torch.linspace(-2, 2, 401, dtype=torch.float64).requires_grad_()
    wanted = torch.tensor([step_by_hand(value, gamma) for value in z.tolist()], dtype=torch.float64)
    torch.testing.assert_close(smooth_step(z, gamma), wanted)
    assert smooth_step(torch.tensor([-gamma / 2, 0.0, gamma / 2]), gamma).tolist() == [0.0, 0.5, 1.0]
    assert torch.autograd.gradcheck(partial(smooth_step, gamma=gamma), z)
    (slope,) = torch.autograd.grad(smooth_step(z, gamma).sum(), z)
    assert (slope >= 0).all()
    assert not slope[z.abs() >= gamma / 2].any()


def test_codes_beyond_the_experts_stand_for_the_first_ones() -> None:
    code = torch.tensor([[0.1, 0.2, 0.3, 0.05, 0.05, 0.1, 0.1, 0.1]])
    torch.testing.assert_close(fold(code, 5), torch.tensor([[0.2, 0.3, 0.4, 0.05, 0.05]]))
    assert torch.equal(fold(code, 8), code)


@pytest.mark.parametrize("num_experts", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(("gamma", "factor"), [(1.0, 1.0), (1.0, 8.0), (2.5, 8.0)])
def test_weights_are_a_mixture_of_selectors(num_experts: int, k: int, gamma: float, factor: float) -> None:
    k = min(k, num_experts)
    router, x = scaled(DSelectK(3, num_experts, k, gamma).double(), factor), torch.randn(6, 3).double()
    selectors, weights = by_hand(router, x, gamma)
    routing = router(x)
    torch.testing.assert_close(routing.dense_weight(), weights)
    torch.testing.assert_close(routing.probs, weights)
    torch.testing.assert_close(routing.extras["selectors"], selectors)
    assert torch.equal(routing.selected(), weights > 0)


def test_masked_tokens_get_nothing() -> None:
    router, x, mask = DSelectK(3, 4), torch.randn(6, 3), torch.tensor([True, False, True, True, False, True])
    masked = router(x, Context(mask=mask)).dense_weight()
    torch.testing.assert_close(masked, router(x).dense_weight() * mask[:, None])


@pytest.mark.parametrize("num_experts", [3, 8])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("factor", [1.0, 30.0, 1e5])
def test_weights_sum_to_one_all_the_way(num_experts: int, k: int, factor: float) -> None:
    table = scaled(DSelectK(6, num_experts, k).double(), factor)(torch.randn(300, 6).double()).dense_weight()
    torch.testing.assert_close(table.sum(1), torch.ones(300).double())
    assert (table >= 0).all()


@pytest.mark.parametrize("num_experts", [5, 16])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_dense_at_first_and_at_most_k_in_the_end(num_experts: int, k: int) -> None:
    router, x = DSelectK(6, num_experts, k), torch.randn(300, 6)
    assert (router(x).experts_per_token() == num_experts).float().mean() > 0.95
    saturated = scaled(router, 1e6)(x).experts_per_token()
    assert saturated.max() == k
    assert saturated.min() >= 1


def test_saturated_selectors_read_the_signs_of_the_scores_as_bits() -> None:
    router = DSelectK(3, 8, k=1)
    torch.nn.init.eye_(router.bits.weight)
    x = torch.tensor([[-9.0, -9.0, -9.0], [9.0, -9.0, -9.0], [-9.0, 9.0, -9.0], [9.0, 9.0, 9.0]])
    assert router(x).dense_weight().argmax(1).tolist() == [0, 1, 2, 7]


@pytest.mark.parametrize(("num_experts", "k"), [(4, 2), (3, 1)])
@pytest.mark.parametrize("factor", [1.0, 6.0])
def test_gradients_are_those_of_differences(num_experts: int, k: int, factor: float) -> None:
    router, x = scaled(DSelectK(3, num_experts, k).double(), factor), doubles(5, 3)
    assert gradients_hold(router, x)
    assert gradients_hold(router, x, read=lambda routing: routing.extras["selectors"])


def test_gradient_passes_to_experts_that_are_not_the_best() -> None:
    """What a top-k router cannot do: every expert's weight pulls on the gate."""
    router = DSelectK(6, 8, k=1)
    table = router(torch.randn(50, 6)).dense_weight()
    for e in range(8):
        (gradient,) = torch.autograd.grad(table[:, e].sum(), router.bits.weight, retain_graph=True)
        assert gradient.any()


@pytest.mark.parametrize("k", [0, 5])
def test_k_beyond_the_experts_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"DSelectK: k={k} must lie between 1 and num_experts=4$"):
        DSelectK(6, 4, k)


@pytest.mark.parametrize("gamma", [0.0, -1.0])
def test_a_slope_without_width_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match=rf"DSelectK: gamma={gamma} must be positive$"):
        DSelectK(6, 4, gamma=gamma)
