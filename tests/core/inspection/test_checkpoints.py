"""Drift by hand and at its ends."""

import math

import pytest
import torch
from collegium import Context, Routing, inspection
from collegium.routers import AllExperts, TopK


def chosen(
    index: list[list[int]], probs: torch.Tensor | None = None, mask: list[bool] | None = None
) -> Routing:
    of = torch.tensor(index)
    return Routing.from_topk(
        of, torch.ones(of.shape), 4, probs=probs, mask=None if mask is None else torch.tensor(mask)
    )


def test_the_experts_that_changed_by_hand() -> None:
    before, after = chosen([[0, 1], [2, 3], [0, 1]]), chosen([[1, 0], [2, 1], [2, 3]])
    assert inspection.drift(before, after).experts == pytest.approx((0 + 2 / 3 + 1) / 3)


def test_probabilities_by_hand() -> None:
    """Half the mass moved: the middle is (3/4, 1/4), JS = h(3/4, 1/4) - (0 + log 2) / 2."""
    sure, torn = torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0.5, 0.5, 0, 0]])
    found = inspection.drift(chosen([[0]], sure), chosen([[0]], torn)).probs
    middle = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert found == pytest.approx(middle - math.log(2) / 2, abs=1e-6)


def test_nothing_moved_and_all_moved() -> None:
    routing = TopK(8, 4, k=2)(torch.randn(20, 8))
    assert inspection.drift(routing, routing) == (0, 0)
    end = torch.eye(4)
    assert inspection.drift(chosen([[0]], end[:1]), chosen([[1]], end[1:2])) == pytest.approx(
        (1, math.log(2))
    )


def test_drift_is_symmetric() -> None:
    x = torch.randn(30, 8)
    one, other = TopK(8, 4, k=2)(x), TopK(8, 4, k=2)(x)
    there, back = inspection.drift(one, other), inspection.drift(other, one)
    assert there == pytest.approx(back)
    assert 0 < there.experts < 1
    assert there.probs is not None
    assert 0 < there.probs < math.log(2)


def test_masked_tokens_have_no_share() -> None:
    mask = [True, False]
    end = torch.eye(4)
    before = chosen([[0], [0]], end[[0, 0]], mask)
    after = chosen([[0], [1]], end[[0, 1]], mask)
    assert inspection.drift(before, after) == (0, 0)
    nobody = Context(mask=torch.zeros(3, dtype=torch.bool))
    router, x = TopK(8, 4), torch.randn(3, 8)
    assert inspection.drift(router(x, nobody), router(x, nobody)) == (0, 0)


def test_routers_without_probabilities_and_dense_ones() -> None:
    x = torch.randn(6, 8)
    assert inspection.drift(chosen([[0]]), chosen([[0]], torch.eye(4)[:1])) == (0, None)
    moved = inspection.drift(AllExperts(8, 4)(x), AllExperts(8, 4)(x))
    assert moved.experts == 0
    assert moved.probs is not None
    assert moved.probs > 0


def test_other_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same tokens and experts, not \(T, E\) = \(1, 4\) and \(2, 4\)"):
        inspection.drift(chosen([[0]]), chosen([[0], [1]]))
    with pytest.raises(ValueError, match=r"probabilities of one shape, not \(1, 4\) and \(1, 5\)"):
        inspection.drift(chosen([[0]], torch.rand(1, 4)), chosen([[0]], torch.rand(1, 5)))
