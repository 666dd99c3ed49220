"""Groups of experts: the best ones alone, or equally many in each."""

from typing import Any

import pytest
import torch
from collegium import Context
from collegium.routers import EqualPerGroup, GroupLimited, TopK
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.core.blocks import doubles, examples, gradients_hold


def scores_of(router: TopK, x: Tensor) -> list[list[float]]:
    logits = x @ router.gate.weight.T
    return (logits.softmax(1) if router.score == "softmax" else logits.sigmoid()).tolist()


def best(candidates: list[int], wish: list[float], k: int) -> list[int]:
    return sorted(candidates, key=lambda e: -wish[e])[:k]


def table_of(router: TopK, x: Tensor, choose: Any) -> Tensor:
    """(T, E) weights, where ``choose`` picks the experts of a token by its scores plus the bias."""
    bias = [0.0] * router.num_experts if router.bias is None else router.bias.tolist()
    rows = []
    for scores in scores_of(router, x):
        chosen = choose([s + b for s, b in zip(scores, bias, strict=True)])
        total = sum(scores[e] for e in chosen) if router.renormalize else 1.0
        rows.append([scores[e] / total if e in chosen else 0.0 for e in range(router.num_experts)])
    return torch.tensor(rows, dtype=torch.float64).view(-1, router.num_experts)


def members(group: int, size: int) -> list[int]:
    return list(range(group * size, (group + 1) * size))


options = {
    "score": st.sampled_from(["softmax", "sigmoid"]),
    "bias": st.booleans(),
    "renormalize": st.booleans(),
    "tokens": st.integers(0, 8),
    "seed": st.integers(0, 2**16),
}


@examples(60)
@given(
    groups=st.integers(1, 4),
    size=st.integers(1, 4),
    data=st.data(),
    masked=st.booleans(),
    **options,
)
def test_the_best_experts_of_the_best_groups(
    groups: int,
    size: int,
    data: st.DataObject,
    masked: bool,
    score: Any,
    bias: bool,
    renormalize: bool,
    tokens: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    top_groups = data.draw(st.integers(1, groups))
    k = data.draw(st.integers(1, top_groups * size))
    router = GroupLimited(
        3, groups * size, k, groups, top_groups, renormalize and k > 1, bias=bias, score=score
    ).double()
    if router.bias is not None:
        router.bias.normal_(std=0.3)

    def choose(wish: list[float]) -> list[int]:
        def worth(group: int) -> float:
            falling = sorted((wish[e] for e in members(group, size)), reverse=True)
            return sum(falling[: 2 if bias else 1])

        reached = sorted(range(groups), key=lambda group: -worth(group))[:top_groups]
        return best([e for group in reached for e in members(group, size)], wish, k)

    x, mask = torch.randn(tokens, 3).double(), torch.rand(tokens) < 0.7
    table = router(x, Context(mask=mask) if masked else None).dense_weight()
    wanted = table_of(router, x, choose)
    torch.testing.assert_close(table, wanted * mask[:, None] if masked else wanted)


@examples(60)
@given(groups=st.integers(1, 4), size=st.integers(1, 4), data=st.data(), masked=st.booleans(), **options)
def test_equally_many_experts_of_each_group(
    groups: int,
    size: int,
    data: st.DataObject,
    masked: bool,
    score: Any,
    bias: bool,
    renormalize: bool,
    tokens: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    each = data.draw(st.integers(1, size))
    k = groups * each
    router = EqualPerGroup(
        3, groups * size, k, groups, renormalize and k > 1, bias=bias, score=score
    ).double()
    if router.bias is not None:
        router.bias.normal_(std=0.3)

    def choose(wish: list[float]) -> list[int]:
        return [e for group in range(groups) for e in best(members(group, size), wish, each)]

    x, mask = torch.randn(tokens, 3).double(), torch.rand(tokens) < 0.7
    table = router(x, Context(mask=mask) if masked else None).dense_weight()
    wanted = table_of(router, x, choose)
    torch.testing.assert_close(table, wanted * mask[:, None] if masked else wanted)


def imbalance(router: TopK, x: Tensor) -> float:
    """Greatest less least load of 8 devices with 8 experts each, over the tokens (MoGE, section 2.1)."""
    load = router(x).row_counts().view(8, 8).sum(1)
    return float(load.max() - load.min()) / len(x)


def test_groups_are_equally_loaded_in_every_batch_and_those_of_top_k_in_none() -> None:
    equal, plain = EqualPerGroup(32, 64, k=8, groups=8), TopK(32, 64, k=8)
    batches = [torch.randn(16, 32) for _ in range(100)]
    assert all(imbalance(equal, x) == 0 for x in batches)
    scores = [imbalance(plain, x) for x in batches]
    assert min(scores) > 0
    assert 0.5 < sum(scores) / 100 < 1.1  # simulated 0.66, the paper says about 1


def test_groups_are_equally_loaded_however_skewed_the_router() -> None:
    router, x = EqualPerGroup(4, 8, k=2, groups=2), torch.rand(50, 4)
    router.gate.weight.data[:4] += 10
    assert router(x).row_counts().view(2, 4).sum(1).tolist() == [50, 50]


def test_a_token_reaches_no_more_groups_than_it_may() -> None:
    router = GroupLimited(8, 16, k=4, groups=8, top_groups=2)
    reached = router(torch.randn(200, 8)).selected().view(200, 8, 2).any(2).sum(1)
    assert (reached == 2).all()
    spread = TopK(8, 16, k=4)(torch.randn(200, 8)).selected().view(200, 8, 2).any(2).sum(1)
    assert spread.max() == 4


@pytest.mark.parametrize("cls", [GroupLimited, EqualPerGroup])
@pytest.mark.parametrize("bias", [True, False])
def test_one_group_of_all_experts_is_top_k(cls: type[Any], bias: bool) -> None:
    router, plain, x = cls(5, 6, k=2, groups=1, bias=bias), TopK(5, 6, k=2, bias=bias), torch.randn(30, 5)
    if bias:
        router.bias.normal_(std=0.2)
    plain.load_state_dict(router.state_dict())
    assert torch.equal(router(x).dense_weight(), plain(x).dense_weight())


def test_all_groups_allowed_is_top_k() -> None:
    router, plain, x = GroupLimited(5, 6, k=3, groups=3, top_groups=3), TopK(5, 6, k=3), torch.randn(30, 5)
    plain.load_state_dict(router.state_dict())
    assert torch.equal(router(x).dense_weight(), plain(x).dense_weight())


def test_with_a_bias_a_group_is_worth_its_two_best() -> None:
    """Expert 0 is the best, experts 2 and 3 are better together than 0 and 1."""
    logits = torch.tensor([[2.0, -2.0, 1.5, 1.4]])
    for bias, chosen in ((False, [0, 1]), (True, [2, 3])):
        router = GroupLimited(4, 4, k=2, groups=2, bias=bias, score="sigmoid")
        torch.nn.init.eye_(router.gate.weight)
        assert router(logits).expert.tolist() == chosen


@pytest.mark.parametrize("cls", [GroupLimited, EqualPerGroup])
@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
def test_gradients_are_those_of_differences(cls: type[Any], score: str) -> None:
    assert gradients_hold(cls(3, 4, k=2, renormalize=True, score=score).double(), doubles(4, 3))


@pytest.mark.parametrize("cls", [GroupLimited, EqualPerGroup])
@pytest.mark.parametrize("groups", [0, 4, 7])
def test_groups_that_do_not_divide_the_experts_are_refused(cls: type[Any], groups: int) -> None:
    with pytest.raises(ValueError, match=rf"{cls.__name__}: groups={groups} must divide num_experts=6$"):
        cls(4, 6, k=2, groups=groups)


@pytest.mark.parametrize(("k", "top_groups"), [(4, 1), (2, 0), (2, 3)])
def test_groups_with_too_few_experts_are_refused(k: int, top_groups: int) -> None:
    words = rf"top_groups={top_groups} of 2, 3 experts each, cannot give k={k}$"
    with pytest.raises(ValueError, match=words):
        GroupLimited(4, 6, k=k, groups=2, top_groups=top_groups)


def test_a_k_that_is_no_multiple_of_the_groups_is_refused() -> None:
    with pytest.raises(ValueError, match=r"EqualPerGroup: k=3 must be a multiple of groups=2$"):
        EqualPerGroup(4, 6, k=3, groups=2)


@pytest.mark.parametrize("cls", [GroupLimited, EqualPerGroup])
def test_what_top_k_refuses_is_refused(cls: type[Any]) -> None:
    with pytest.raises(ValueError, match=r"would never learn$"):
        cls(4, 6, k=1, groups=1, renormalize=True)
    with pytest.raises(ValueError, match=rf"{cls.__name__}: k=7 must lie between 1 and num_experts=6$"):
        cls(4, 6, k=7)
