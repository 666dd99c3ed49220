"""Comet: trees that share a softmax, and the search for an order of their leaves."""

import math

import pytest
import torch
from collegium import Context
from collegium.routers import Comet
from collegium.routers.comet import gumbel_sinkhorn
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold


def step_by_hand(z: float, gamma: float) -> float:
    z = min(max(z, -gamma / 2), gamma / 2)
    return -2 * z**3 / gamma**3 + 3 * z / (2 * gamma) + 1 / 2


def leaves_by_hand(right: list[float], node: int = 0) -> list[float]:
    """Probability of each leaf below a node, from left to right."""
    if node >= len(right):
        return [1.0]
    left, other = (leaves_by_hand(right, 2 * node + side) for side in (1, 2))
    return [(1 - right[node]) * p for p in left] + [right[node] * p for p in other]


def by_hand(router: Comet, x: Tensor, gamma: float, order: list[list[int]]) -> tuple[Tensor, Tensor]:
    """(T, k, E) leaf probabilities and (T, E) weights; leaf l of tree i is expert order[i][l] mod E."""
    k, E = router.trees, router.num_experts
    leaves = max(2, 2 ** math.ceil(math.log2(E)))
    V, b = router.nodes.weight.view(k, leaves - 1, -1), router.node_bias.view(k, leaves - 1)
    A = router.scores.weight.view(k, leaves, -1)
    selectors, weights = [], []
    for token in x:
        chance = [
            leaves_by_hand([step_by_hand(z, gamma) for z in (V[i] @ token + b[i]).tolist()]) for i in range(k)
        ]
        logits = [
            [
                a + (math.log(p) if p else -math.inf)
                for a, p in zip((A[i] @ token).tolist(), chance[i], strict=True)
            ]
            for i in range(k)
        ]
        highest = max(z for tree in logits for z in tree)
        raised = [[math.exp(z - highest) for z in tree] for tree in logits]
        total = sum(sum(tree) for tree in raised)
        weight, selector = [0.0] * E, [[0.0] * E for _ in range(k)]
        for i in range(k):
            for leaf in range(leaves):
                weight[order[i][leaf] % E] += raised[i][leaf] / total
                selector[i][order[i][leaf] % E] += chance[i][leaf]
        weights.append(weight)
        selectors.append(selector)
    return torch.tensor(selectors, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)


def scaled(router: Comet, factor: float) -> Comet:
    router.nodes.weight.data.mul_(factor)
    return router


def identity(k: int, num_experts: int) -> list[list[int]]:
    return [list(range(2 * num_experts)) for _ in range(k)]


@pytest.mark.parametrize("num_experts", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(("gamma", "factor"), [(1.0, 1.0), (1.0, 8.0), (2.5, 8.0), (1.0, 1e6)])
def test_weights_are_one_softmax_over_the_leaves_of_all_trees(
    num_experts: int, k: int, gamma: float, factor: float
) -> None:
    k = min(k, num_experts)
    router, x = scaled(Comet(3, num_experts, k, gamma).double(), factor), torch.randn(6, 3).double()
    router.node_bias.data.normal_(std=0.1 * factor)
    selectors, weights = by_hand(router, x, gamma, identity(k, num_experts))
    routing = router(x)
    torch.testing.assert_close(routing.dense_weight(), weights)
    torch.testing.assert_close(routing.probs, weights)
    torch.testing.assert_close(routing.extras["selectors"], selectors)
    assert torch.equal(routing.selected(), weights > 0)


def test_masked_tokens_get_nothing() -> None:
    router, x, mask = Comet(3, 4), torch.randn(6, 3), torch.tensor([True, False, True, True, False, True])
    masked = router(x, Context(mask=mask)).dense_weight()
    torch.testing.assert_close(masked, router(x).dense_weight() * mask[:, None])


@pytest.mark.parametrize("num_experts", [3, 8])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("factor", [1.0, 30.0, 1e5])
@pytest.mark.parametrize("score", [1.0, 300.0])
def test_weights_sum_to_one_all_the_way(num_experts: int, k: int, factor: float, score: float) -> None:
    """Also where the leaf that a tree ends in has a far lower score than the leaves that it leaves out."""
    router = scaled(Comet(6, num_experts, k), factor)
    router.scores.weight.data.mul_(score)
    table = router(torch.randn(300, 6)).dense_weight()
    torch.testing.assert_close(table.sum(1), torch.ones(300))
    assert (table >= 0).all()


@pytest.mark.parametrize("num_experts", [5, 16])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_dense_at_first_and_at_most_k_in_the_end(num_experts: int, k: int) -> None:
    router, x = Comet(6, num_experts, k), torch.randn(300, 6)
    assert (router(x).experts_per_token() == num_experts).float().mean() > 0.95
    saturated = scaled(router, 1e6)(x).experts_per_token()
    assert saturated.max() == k
    assert saturated.min() >= 1


@pytest.mark.parametrize("factor", [1.0, 6.0])
@pytest.mark.parametrize(("num_experts", "k"), [(4, 2), (3, 1)])
def test_gradients_are_those_of_differences(num_experts: int, k: int, factor: float) -> None:
    router, x = scaled(Comet(3, num_experts, k).double(), factor), doubles(5, 3)
    assert gradients_hold(router, x)
    assert gradients_hold(router, x, read=lambda routing: routing.extras["selectors"])


def test_gradients_hold_while_the_order_is_searched() -> None:
    router = Comet(3, 4, k=2, search=0.5).double()
    router.anneal(0.1)
    assert gradients_hold(router, doubles(5, 3), seed=3)


def test_at_the_start_evaluation_uses_the_identity() -> None:
    router, plain, x = Comet(6, 8, k=2, search=0.5).double().eval(), Comet(6, 8, k=2).double(), doubles(20, 6)
    plain.load_state_dict(router.state_dict(), strict=False)
    torch.testing.assert_close(router(x).dense_weight(), plain(x).dense_weight())


@pytest.mark.parametrize("num_experts", [4, 6])
def test_evaluation_uses_the_nearest_permutation(num_experts: int) -> None:
    router, x = Comet(3, num_experts, k=3, search=0.5).double().eval(), torch.randn(6, 3).double()
    router.permutation.data.normal_()
    order = [
        linear_sum_assignment(tree.numpy(), maximize=True)[1].tolist() for tree in router.permutation.detach()
    ]
    assert all(tree != sorted(tree) for tree in order)
    selectors, weights = by_hand(router, x, 1.0, order)
    routing = router(x)
    torch.testing.assert_close(routing.dense_weight(), weights)
    torch.testing.assert_close(routing.extras["selectors"], selectors)


def test_in_evaluation_each_leaf_is_one_expert() -> None:
    """A saturated tree sends each token to one expert, and reaches all of them."""
    router = scaled(Comet(8, 8, k=1, search=0.5), 1e6).eval()
    router.permutation.data.normal_()
    table = router(torch.randn(500, 8)).dense_weight()
    assert set(table.unique().tolist()) == {0.0, 1.0}
    assert table.any(0).all()


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.49, 0.6])
def test_weights_sum_to_one_whatever_order_is_learned(progress: float) -> None:
    router = Comet(6, 8, k=2, search=0.5)
    router.permutation.data.normal_(std=3.0)
    router.anneal(progress)
    torch.testing.assert_close(router(torch.randn(50, 6)).dense_weight().sum(1), torch.ones(50))


def test_the_search_draws_in_training_and_cools_down_to_a_permutation() -> None:
    router, x = scaled(Comet(8, 8, k=1, search=0.5), 1e6), torch.randn(200, 8)
    sharpness = []
    for progress in (0.0, 0.125, 0.25, 0.375, 0.49):
        router.anneal(progress)
        table = router(x).dense_weight()
        torch.testing.assert_close(table.sum(1), torch.ones(200))
        assert not torch.equal(router(x).dense_weight(), table)
        sharpness.append(float(table.detach().amax(1).mean()))
    assert sharpness == sorted(sharpness)
    assert sharpness[0] < 0.5
    assert sharpness[-1] > 0.99


@pytest.mark.parametrize("search", [0.3, 1 / 3, 0.7, 1.0])
def test_the_search_ends_at_its_share_of_training(search: float) -> None:
    router, x = Comet(6, 8, k=2, search=search), torch.randn(50, 6)
    router.permutation.data.normal_()
    router.anneal(search)
    assert torch.equal(router.train()(x).dense_weight(), router.eval()(x).dense_weight())


def test_the_order_is_learned_during_the_search_and_rests_afterwards() -> None:
    router, x = Comet(6, 8, k=2, search=0.5), torch.randn(50, 6)
    for progress, moves in ((0.0, True), (0.4, True), (0.6, False), (1.0, False)):
        router.anneal(progress)
        weight = router(x).weight
        (gradient,) = torch.autograd.grad((weight * torch.randn_like(weight)).sum(), router.permutation)
        assert bool(gradient.any()) is moves


def test_the_relaxation_is_doubly_stochastic() -> None:
    plan = gumbel_sinkhorn(torch.randn(3, 5, 5).double(), temperature=0.5, rounds=200)
    torch.testing.assert_close(plan.sum(1), torch.ones(3, 5).double())
    torch.testing.assert_close(plan.sum(2), torch.ones(3, 5).double())
    assert (plan > 0).all()


def test_the_relaxation_scales_columns_and_rows_in_turn() -> None:
    logits = torch.randn(4, 4).double()
    plan = [[math.exp(z / 0.7) for z in row] for row in logits.tolist()]
    for _ in range(3):
        totals = [sum(row[j] for row in plan) for j in range(4)]
        plan = [[mass / total for mass, total in zip(row, totals, strict=True)] for row in plan]
        plan = [[mass / sum(row) for mass in row] for row in plan]
    found = gumbel_sinkhorn(logits, 0.7, noise=0.0, rounds=3)
    torch.testing.assert_close(found, torch.tensor(plan, dtype=torch.float64))


def test_the_cold_relaxation_is_the_nearest_permutation() -> None:
    order = torch.randperm(5)
    logits = torch.eye(5).double()[order] + 0.4 * torch.rand(5, 5).double()
    plan = gumbel_sinkhorn(logits, temperature=0.01)
    torch.testing.assert_close(plan, torch.eye(5).double()[order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("k", [0, 5])
def test_k_beyond_the_experts_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"Comet: k={k} must lie between 1 and num_experts=4$"):
        Comet(6, 4, k)


@pytest.mark.parametrize("options", [{"gamma": 0.0}, {"gamma": -1.0}, {"search": -0.1}, {"search": 1.1}])
def test_no_slope_and_no_share_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"Comet wants a positive gamma and a search between 0 and 1$"):
        Comet(6, 4, **options)  # type: ignore[arg-type]


def test_the_order_is_found_once_when_the_search_ends_and_travels_with_the_weights() -> None:
    router, x = Comet(6, 8, k=2, search=0.5), torch.randn(50, 6)
    router.permutation.data.normal_()
    during = router.eval()(x).dense_weight()
    router.anneal(0.5)
    router.permutation.data.normal_()
    assert torch.equal(router(x).dense_weight(), during)
    twin = Comet(6, 8, k=2, search=0.5).eval()
    twin.load_state_dict(router.state_dict())
    assert torch.equal(twin(x).dense_weight(), during)
