"""Routing: what its constructors make, against hand-computed cases and brute force."""

import dataclasses

import pytest
import torch
from collegium import Routing
from collegium.routing import count
from collegium.testing import check_routing
from hypothesis import given
from hypothesis import strategies as st

from tests.core.blocks import examples

INDEX = torch.tensor([[2, 0], [2, 1], [0, 1]])
WEIGHT = torch.tensor([[0.7, 0.3], [0.6, 0.4], [0.9, 0.1]])
CHOSEN = torch.tensor([[True, False, True], [False, True, True], [True, True, False]])


def test_from_topk_sorts_assignments_by_expert_then_token() -> None:
    routing = Routing.from_topk(INDEX, WEIGHT, 4)
    assert routing.expert.tolist() == [0, 0, 1, 1, 2, 2]
    assert routing.token.tolist() == [0, 2, 1, 2, 0, 1]
    torch.testing.assert_close(routing.weight, torch.tensor([0.3, 0.9, 0.4, 0.1, 0.7, 0.6]))
    assert routing.counts.tolist() == routing.demand.tolist() == [2, 2, 2, 0]
    assert routing.position.tolist() == [[4, 0], [5, 2], [1, 3]]
    check_routing(routing)


def test_from_topk_leaves_masked_tokens_out() -> None:
    routing = Routing.from_topk(INDEX, WEIGHT, 4, mask=torch.tensor([True, False, True]))
    assert routing.expert.tolist() == [0, 0, 1, 2]
    assert routing.token.tolist() == [0, 2, 2, 0]
    assert routing.counts.tolist() == [2, 1, 1, 0]
    assert routing.position is None
    check_routing(routing)


def test_from_selection_equals_from_topk() -> None:
    table = torch.tensor([[0.3, 0.0, 0.7], [0.0, 0.4, 0.6], [0.9, 0.1, 0.0]])
    for mask in (None, torch.tensor([False, True, True])):
        one, other = (
            Routing.from_selection(CHOSEN, table, mask=mask),
            Routing.from_topk(INDEX, WEIGHT, 3, mask=mask),
        )
        assert torch.equal(one.token, other.token)
        assert torch.equal(one.expert, other.expert)
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.row_counts(), other.row_counts())
        check_routing(one)


MASK = torch.tensor([True, False, True])


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_weights_pass_their_gradient_on(mask: torch.Tensor | None) -> None:
    for build in (
        lambda table: Routing.from_topk(INDEX, table.gather(1, INDEX), 3, mask=mask),
        lambda table: Routing.from_selection(CHOSEN, table, mask=mask),
        lambda table: Routing.dense(table * CHOSEN, mask=mask),
    ):
        table = torch.rand(3, 3, requires_grad=True)
        (build(table).weight ** 2).sum().backward()
        taken = CHOSEN if mask is None else CHOSEN & mask[:, None]
        torch.testing.assert_close(table.grad, 2 * table.detach() * taken)


def test_dense_sends_every_token_everywhere() -> None:
    table = torch.arange(6.0).view(3, 2)
    routing = Routing.dense(table)
    assert routing.expert.tolist() == [0, 0, 0, 1, 1, 1]
    assert routing.token.tolist() == [0, 1, 2, 0, 1, 2]
    assert routing.weight.tolist() == [0, 2, 4, 1, 3, 5]
    assert routing.counts == 3
    assert routing.row_counts().tolist() == routing.demand.tolist() == [3, 3]
    check_routing(routing)


def test_dense_leaves_masked_tokens_out() -> None:
    routing = Routing.dense(torch.arange(6.0).view(3, 2), mask=torch.tensor([True, False, True]))
    assert routing.token.tolist() == [0, 2, 0, 2]
    assert routing.weight.tolist() == [0, 4, 1, 5]
    assert routing.counts == 2
    check_routing(routing)


def kept_by_brute_force(routing: Routing, capacity: int) -> set[tuple[int, int]]:
    """(token, expert) of the ``capacity`` heaviest assignments of each expert; earlier tokens win ties."""
    kept = set()
    assignments = list(
        zip(*(f.tolist() for f in (routing.token, routing.expert, routing.weight)), strict=True)
    )
    for e in range(routing.num_experts):
        rows = sorted((-weight, token) for token, expert, weight in assignments if expert == e)
        kept |= {(token, e) for _, token in rows[:capacity]}
    return kept


@examples(60)
@given(
    tokens=st.integers(0, 12),
    num_experts=st.integers(1, 4),
    capacity=st.integers(0, 5),
    ties=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_capacity_drops_the_least_weights(
    tokens: int, num_experts: int, capacity: int, ties: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = torch.rand(tokens, num_experts, generator=generator)
    table = (3 * table).round() if ties else table
    chosen = torch.rand(tokens, num_experts, generator=generator) < 0.6
    full = Routing.from_selection(chosen, table)
    limited = full.with_capacity(capacity)
    check_routing(limited)
    pairs = set(zip(limited.token.tolist(), limited.expert.tolist(), strict=True))
    assert pairs == kept_by_brute_force(full, capacity)
    assert torch.equal(limited.weight, table[limited.token, limited.expert])
    assert torch.equal(limited.demand, full.demand)


def test_capacity_keeps_the_gradient_of_what_it_keeps() -> None:
    weight = WEIGHT.clone().requires_grad_()
    Routing.from_topk(INDEX, weight, 3).with_capacity(1).weight.sum().backward()
    assert weight.grad.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_capacity_of_a_dense_routing_counts_rows_anew() -> None:
    limited = Routing.dense(torch.rand(5, 3)).with_capacity(2)
    assert limited.counts.tolist() == [2, 2, 2]
    assert limited.demand.tolist() == [5, 5, 5]
    check_routing(limited)


def test_dense_weight_is_the_table_of_weights() -> None:
    wanted = torch.tensor([[0.3, 0.0, 0.7], [0.0, 0.4, 0.6], [0.9, 0.1, 0.0]])
    torch.testing.assert_close(Routing.from_topk(INDEX, WEIGHT, 3).dense_weight(), wanted)


def test_experts_per_token_counts_rows() -> None:
    chosen = torch.tensor([[True, True], [False, False], [False, True]])
    assert Routing.from_selection(chosen, chosen.float()).experts_per_token().tolist() == [2, 0, 1]


def test_stack_puts_rows_of_a_dense_routing_by_token_and_expert() -> None:
    x = torch.randn(4, 2)
    routing = Routing.dense(torch.ones(4, 3))
    rows = torch.cat([x, 10 * x, 100 * x])
    stacked = routing.stack(rows)
    assert stacked.shape == (4, 3, 2)
    for e, factor in enumerate((1, 10, 100)):
        torch.testing.assert_close(stacked[:, e], factor * x)


def many(k: int, tokens: int = 1000, experts: int = 8) -> Routing:
    """So many tokens that an unstable sort would mix up those of an expert."""
    index = torch.rand(tokens, experts, generator=torch.Generator().manual_seed(0)).topk(k, dim=1).indices
    return Routing.from_topk(index, torch.ones(tokens, k), experts)


def test_tokens_of_an_expert_keep_their_order() -> None:
    routing = many(k=2)
    check_routing(routing)
    for expert in range(8):
        assert bool((routing.token[routing.expert == expert].diff() > 0).all())


def test_stack_of_all_experts_by_index_is_that_of_a_dense_routing() -> None:
    routing, x = many(k=8), torch.randn(1000, 3)
    rows = x[routing.token] * (1 + routing.expert[:, None])
    torch.testing.assert_close(routing.stack(rows), x[:, None] * torch.arange(1.0, 9)[:, None])


@pytest.mark.parametrize(
    "routing",
    [
        Routing.from_topk(INDEX, WEIGHT, 3),
        Routing.dense(torch.ones(3, 2), mask=torch.tensor([True, True, False])),
    ],
    ids=["sparse", "masked"],
)
def test_stack_has_zeros_where_an_expert_was_not_asked(routing: Routing) -> None:
    rows = torch.arange(1.0, len(routing.token) + 1)[:, None] * torch.tensor([1.0, -1.0])
    stacked = routing.stack(rows)
    assert stacked.shape == (routing.num_tokens, routing.num_experts, 2)
    for row, (token, expert) in enumerate(zip(routing.token, routing.expert, strict=True)):
        assert torch.equal(stacked[token, expert], rows[row])
    assert (stacked[~routing.selected()] == 0).all()


def test_a_routing_is_immutable_and_equal_to_itself_alone() -> None:
    one, other = Routing.from_topk(INDEX, WEIGHT, 3), Routing.from_topk(INDEX, WEIGHT, 3)
    assert one == one
    assert one != other
    assert len({one, other}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.num_tokens = 5  # type: ignore[misc]


@examples(30)
@given(index=st.lists(st.integers(0, 6), max_size=20))
def test_count_counts(index: list[int]) -> None:
    assert count(torch.tensor(index, dtype=torch.int64), 7).tolist() == [index.count(i) for i in range(7)]


def test_a_routing_prints_its_sizes_and_what_it_holds() -> None:
    routing = Routing.from_topk(INDEX, WEIGHT, 3)
    assert repr(routing) == "Routing(tokens=3, experts=3, assignments=6, position)"
    mask, scores = torch.tensor([True, False, True]), torch.full((3, 3, 2), 0.5)
    routing = Routing.dense(scores, mask=mask, logits=scores, probs=scores)
    wanted = "Routing(tokens=3, experts=3, assignments=6, gates=2, logits, probs, mask)"
    assert repr(routing) == str(routing) == wanted
