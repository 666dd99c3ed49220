"""Product keys: expert (i, j) by two short lists of scores."""

import math
from statistics import NormalDist

import pytest
import torch
from collegium import Context
from collegium.routers import ProductKey
from torch import Tensor
from torch.nn import functional as F

from tests.core.blocks import doubles, gradients_hold

D = 3


def gate_by_hand(scores: list[float], normal: list[float], k: int) -> list[float]:
    """Softmax of the scores above the quantile that k of n exceed, or of the best where none does."""
    n = len(scores)
    limit = NormalDist().inv_cdf(1 - k / n) if k < n else -math.inf
    kept = [value >= limit or value == max(normal) for value in normal]
    raised = [math.exp(s) if keep else 0.0 for s, keep in zip(scores, kept, strict=True)]
    return [value / sum(raised) for value in raised]


def by_hand(router: ProductKey, x: Tensor, normal: Tensor, k: int) -> Tensor:
    """(T, E): sum over heads of g_i * g'_j for expert i * n + j."""
    H, n = router.heads, router.side
    scores = (x @ router.keys.T).view(len(x), 2, H, n).tolist()
    likes = normal.reshape(len(x), 2, H, n).tolist()
    rows = []
    for z, y in zip(scores, likes, strict=True):
        row = [0.0] * (n * n)
        for h in range(H):
            left, right = (gate_by_hand(z[side][h], y[side][h], k) for side in (0, 1))
            for i in range(n):
                for j in range(n):
                    row[i * n + j] += left[i] * right[j]
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(("num_experts", "k"), [(1, 1), (4, 1), (9, 1), (9, 2), (9, 3), (16, 2)])
@pytest.mark.parametrize("heads", [1, 3])
def test_an_experts_weight_is_the_product_of_two_gates(num_experts: int, k: int, heads: int) -> None:
    router, x = ProductKey(D, num_experts, heads, k).double().eval(), torch.randn(20, D).double()
    router.mean.normal_(std=0.3)
    router.var.uniform_(0.2, 2.0)
    normal = (x @ router.keys.T - router.mean) / (router.var + 1e-5).sqrt()
    wanted = by_hand(router, x, normal, k)
    routing = router(x)
    torch.testing.assert_close(routing.dense_weight(), wanted)
    torch.testing.assert_close(routing.probs, wanted / heads)
    assert torch.equal(routing.selected(), wanted > 0)


def test_training_normalises_over_the_batch_and_evaluation_by_what_was_seen() -> None:
    """As a batch norm without scale and shift, but for scores within a hair of the quantile."""
    router, x = ProductKey(D, 16, heads=2, k=1, momentum=0.3).double(), 3 * torch.randn(4000, D).double() + 1
    mean, var = router.mean.clone(), router.var.clone()
    normal = F.batch_norm(x @ router.keys.T, mean, var, training=True, momentum=0.3)
    clear = ((normal - NormalDist().inv_cdf(0.75)).abs() > 1e-3).all(1)
    torch.testing.assert_close(router(x).dense_weight()[clear], by_hand(router, x[clear], normal[clear], 1))
    assert clear.double().mean() > 0.95
    torch.testing.assert_close(router.mean, mean)
    torch.testing.assert_close(router.var, var)
    seen = (router.mean.clone(), router.var.clone())
    router.eval()(x)
    assert torch.equal(router.mean, seen[0])
    assert torch.equal(router.var, seen[1])


def test_masked_tokens_have_no_share_in_the_moments() -> None:
    one, other = ProductKey(D, 9).double(), ProductKey(D, 9).double()
    other.load_state_dict(one.state_dict())
    x, mask = torch.randn(60, D).double(), torch.arange(60) % 3 > 0
    spoiled = torch.where(mask[:, None], x, 1e3)
    found = one(spoiled, Context(mask=mask)).dense_weight()
    torch.testing.assert_close(found[mask], other(x[mask]).dense_weight())
    assert not found[~mask].any()
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.var, other.var)


@pytest.mark.parametrize("k", [1, 4, 8])
def test_k_of_n_are_kept_in_expectation(k: int) -> None:
    """k * k experts a head, a little more since the best is kept in any case."""
    n, dim = 16, 64
    number = ProductKey(dim, n * n, k=k)(torch.randn(2000, dim)).experts_per_token().double()
    chance = 1 - k / n
    kept = k + chance**n  # the best where none reaches the quantile
    assert abs(float(number.mean()) / kept**2 - 1) < 0.1
    assert number.min() >= 1


@pytest.mark.parametrize("heads", [1, 2, 5])
def test_weights_sum_to_one_a_head(heads: int) -> None:
    table = ProductKey(D, 25, heads, k=2)(torch.randn(100, D)).dense_weight()
    torch.testing.assert_close(table.sum(1), torch.full((100,), float(heads)))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_differences(training: bool) -> None:
    """The choice has no gradient, so the moments that decide it have none."""
    router = ProductKey(D, 9, heads=2, k=2).double().train(training)
    assert gradients_hold(router, doubles(6, D))


def test_it_says_that_it_is_not_causal() -> None:
    assert not ProductKey(D, 9).causal


@pytest.mark.parametrize(
    ("num_experts", "options"), [(8, {}), (9, {"k": 0}), (9, {"k": 4}), (9, {"heads": 0})]
)
def test_no_square_no_choice_and_no_head_are_refused(num_experts: int, options: dict[str, int]) -> None:
    words = (
        rf"ProductKey wants E a square, k from 1 to its root and a head, not E={num_experts}, k=\d, heads=\d$"
    )
    with pytest.raises(ValueError, match=words):
        ProductKey(D, num_experts, **options)
