"""Balanced assignment: even, and as good as the best there is, which the Hungarian method finds."""

import math

import pytest
import torch
from collegium.routers.assignment import balanced_assignment
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tests.core.blocks import examples


def greatest(score_TE: Tensor) -> float:
    """The greatest sum of scores with at most ceil(T / E) tokens an expert."""
    places = math.ceil(score_TE.shape[0] / score_TE.shape[1])
    table = score_TE.repeat_interleave(places, 1).numpy()
    return float(table[linear_sum_assignment(table, maximize=True)].sum())


def total(score_TE: Tensor, owner: Tensor) -> float:
    return float(score_TE.gather(1, owner[:, None]).sum())


@pytest.mark.parametrize("precision", [1e-1, 1e-3, 1e-6])
@examples(40)
@given(
    tokens=st.integers(1, 40),
    num_experts=st.integers(1, 6),
    ties=st.booleans(),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 2**16),
)
def test_loads_are_even_and_the_sum_is_near_the_greatest(
    precision: float, tokens: int, num_experts: int, ties: bool, scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    score = torch.randn(tokens, num_experts).double() + torch.randn(num_experts).double()
    score = scale * (score.round() if ties else score)
    owner = balanced_assignment(score, precision)
    loads = torch.bincount(owner, minlength=num_experts)
    assert owner.dtype == torch.int64
    assert loads.max() <= math.ceil(tokens / num_experts)
    slack = tokens * precision * float(score.max() - score.min())
    assert total(score, owner) >= greatest(score) - slack - 1e-9 * scale


def test_where_experts_divide_tokens_loads_are_equal() -> None:
    score = torch.randn(96, 8) + 5 * torch.randn(8)
    assert torch.bincount(balanced_assignment(score), minlength=8).tolist() == [12] * 8


def test_a_case_by_hand() -> None:
    """All want expert 0; the two that lose least by leaving it go."""
    score = torch.tensor([[9.0, 0.0], [9.0, 8.0], [9.0, 3.0], [9.0, 7.0]])
    assert balanced_assignment(score).tolist() == [0, 1, 0, 1]


def test_a_matrix_near_a_permutation_gives_the_permutation() -> None:
    order = torch.randperm(16)
    score = torch.eye(16)[order] + 0.1 * torch.rand(16, 16)
    assert torch.equal(balanced_assignment(score), order)


def test_equal_scores_are_shared_out() -> None:
    assert torch.bincount(balanced_assignment(torch.ones(12, 4)), minlength=4).tolist() == [3] * 4


def test_tokens_that_want_the_same_experts_alike_do_not_outbid_one_another_for_ever() -> None:
    score = torch.tensor([[1.0, 1.0, 0.9], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    owner = balanced_assignment(score, precision=1e-9)
    assert owner[0] == 2
    assert sorted(owner.tolist()) == [0, 1, 2]


def test_no_tokens_and_one_expert() -> None:
    assert balanced_assignment(torch.zeros(0, 3)).shape == (0,)
    assert balanced_assignment(torch.randn(4, 1)).tolist() == [0] * 4


def test_the_scores_get_no_gradient_and_are_not_changed() -> None:
    score = torch.randn(10, 3, requires_grad=True)
    before = score.detach().clone()
    assert not balanced_assignment(score).requires_grad
    assert torch.equal(score, before)


@pytest.mark.parametrize("spoiled", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("everywhere", [False, True])
def test_scores_that_are_no_numbers_do_not_hold_it_up(spoiled: float, everywhere: bool) -> None:
    score = torch.randn(12, 3)
    score[0 if not everywhere else slice(None)] = spoiled
    assert torch.bincount(balanced_assignment(score), minlength=3).tolist() == [4, 4, 4]
