"""Experts on a stream: what they say of a token stems from the tokens before it alone."""

from dataclasses import replace

import pytest
import torch
from collegium import Context, MoE, experts, record, routers
from collegium.experts import ExpertGroups, OnlineExperts, teach
from collegium.layer import Stack
from collegium.routing import Routing
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor


class Totals(OnlineExperts):
    """Each expert says the weighted sum of all labels it was shown, beside the token's first entry."""

    def __init__(self, num_experts: int) -> None:
        super().__init__(num_experts)
        self.register_buffer("total", torch.zeros(num_experts))

    def predict(self, x: Tensor, counts: Tensor | int) -> Tensor:
        rows = counts if isinstance(counts, Tensor) else torch.full((self.num_experts,), counts)
        return torch.stack([self.total.repeat_interleave(rows), x[:, 0]], 1)

    def learn(self, x: Tensor, y: Tensor, routing: Routing) -> Tensor:
        said = []
        for token, expert, weight in zip(routing.token, routing.expert, routing.weight, strict=True):
            said.append(torch.stack([self.total[expert], x[token, 0]]))
            self.total[expert] += weight * y[token]
        return torch.stack(said) if said else x.new_zeros(0, 2)


def test_there_is_no_gradient_through_what_they_say() -> None:
    layer = MoE(routers.TopK(3, 4, k=2), Totals(4))
    x = torch.randn(5, 3, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert layer.router.gate.weight.grad is not None
    said = layer.experts(x, torch.tensor([5, 0, 0, 0]))
    assert not said.requires_grad


@given(st.integers(0, 2**31), st.integers(1, 12))
def test_a_stretch_at_once_says_what_token_by_token_says(seed: int, tokens: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(tokens, 3, generator=generator), torch.randn(tokens, generator=generator)
    weight = torch.rand(tokens, 5, generator=generator)
    chosen = torch.rand(tokens, 5, generator=generator) < 0.6
    group = ExpertGroups([Totals(2), Totals(3)])
    at_once = teach(group, x, y, Routing.from_selection(chosen, weight))
    alone = ExpertGroups([Totals(2), Totals(3)])
    each = torch.zeros(tokens, 5, 2)
    for t in range(tokens):
        one = Routing.from_selection(chosen[t : t + 1], weight[t : t + 1])
        each[t, one.expert] = teach(alone, x[t : t + 1], y[t : t + 1], one)
    routing = Routing.from_selection(chosen, weight)
    torch.testing.assert_close(at_once, each[routing.token, routing.expert])
    for block, other in zip(group.blocks, alone.blocks, strict=True):
        torch.testing.assert_close(block.total, other.total)


def test_a_sparse_routing_teaches_many_tokens_in_their_order() -> None:
    x, y = torch.randn(1000, 3), torch.rand(1000)
    routing = routers.TopK(3, 4, k=2)(x)
    routing = replace(routing, weight=torch.ones_like(routing.weight))
    said = teach(Totals(4), x, y, routing)[:, 0]
    for expert in range(4):
        own = routing.expert == expert
        before = y[routing.selected()[:, expert]].cumsum(0).roll(1)
        before[0] = 0
        torch.testing.assert_close(said[own], before)


def test_a_lesson_of_no_weight_leaves_an_expert_as_it_was() -> None:
    block = Totals(2)
    routing = Routing.dense(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    block.learn(torch.ones(2, 3), torch.tensor([2.0, 3.0]), routing)
    assert block.total.tolist() == [5.0, 0.0]


def test_experts_that_learn_by_gradient_are_run_as_they_are() -> None:
    mlp = experts.MLP(3, 2, 8, out_dim=2)
    group = ExpertGroups([mlp, Totals(1)])
    x, y = torch.randn(4, 3), torch.ones(4)
    said = teach(group, x, y, Routing.dense(torch.ones(4, 3)))
    torch.testing.assert_close(said[:8], mlp(x.repeat(2, 1), 4))
    said[:8].sum().backward()
    assert mlp.up.grad is not None
    assert said[8:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_block_must_say_how_it_predicts_and_learns() -> None:
    with pytest.raises(TypeError, match="abstract"):
        OnlineExperts(2)


def test_a_layer_mixes_what_its_experts_said_before_they_learned() -> None:
    layer = MoE(routers.TopK(3, 4, k=2), Totals(4))
    x, y = torch.randn(6, 3), torch.randn(6)
    with record(layer) as routings:
        lesson = layer.learn(x, y)
    before = torch.cat([torch.zeros(1), y.cumsum(0)[:-1]])
    torch.testing.assert_close(lesson.said[:, :, 0], before[:, None].expand(6, 4))
    weight = lesson.routing.dense_weight()
    torch.testing.assert_close(lesson.mixed, (weight[:, :, None] * lesson.said).sum(1))
    assert [len(calls) for calls in routings.values()] == [1]
    lesson.mixed.sum().backward()
    assert layer.router.gate.weight.grad is not None


def test_a_layer_learns_in_the_order_of_its_leading_dims_and_from_real_tokens_alone() -> None:
    layer = MoE(routers.TopK(3, 4, k=2), Totals(4))
    x, y = torch.randn(2, 3, 3), torch.rand(2, 3)
    mask = torch.tensor([[True, False, True], [True, True, False]])
    context = Context(mask=mask)
    spoiled = x.where(mask[..., None], torch.nan), y.where(mask, torch.nan)
    lesson = layer.learn(*spoiled, context)
    real = y[mask]
    before = real.cumsum(0) - real
    assert (lesson.mixed.shape, lesson.said.shape) == ((2, 3, 2), (2, 3, 4, 2))
    torch.testing.assert_close(lesson.said[mask][:, :, 0], before[:, None].expand(4, 4))
    assert not lesson.said[~mask].any()
    assert not lesson.mixed[~mask].any()
    torch.testing.assert_close(layer.experts.total, real.sum().expand(4))


def test_what_a_layer_says_as_it_learns_is_what_it_says_in_use() -> None:
    class Timed(experts.Experts):
        needs = ("time",)

        def forward(self, x: Tensor, counts: Tensor | int, *, time: Tensor) -> Tensor:
            return x * time[:, None]

    block = ExpertGroups([experts.MLP(3, 2, 8), Timed(2)])
    layer = MoE(routers.TopK(3, 4, k=2), block, shared=torch.nn.Linear(3, 3))
    x, mask = torch.randn(2, 5, 3), torch.rand(2, 5) < 0.7
    context = Context(time=torch.rand(2, 5), mask=mask)
    lesson = layer.learn(x, torch.ones(2, 5), context)
    torch.testing.assert_close(lesson.mixed, layer(x, context))
    lesson.mixed[mask].sum().backward()
    assert layer.shared.weight.grad is not None


def test_what_a_layer_cannot_learn_is_refused_in_a_sentence() -> None:
    class Timed(Totals):
        needs = ("time",)

    layer = MoE(routers.TopK(3, 4, k=2), Totals(4))
    x = torch.randn(2, 5, 3)
    with pytest.raises(ValueError, match=r"^learn wants y for each token: it is \(10,\).*dims \(2, 5\)$"):
        layer.learn(x, torch.ones(10))
    with pytest.raises(ValueError, match=r"^learn wants lessons for each token: it is \(10, 4\)"):
        layer.learn(x, torch.ones(2, 5), lessons=torch.ones(10, 4))
    with pytest.raises(ValueError, match=r"^TopK expects tokens of width 3"):
        layer.learn(torch.randn(2, 4), torch.ones(2))
    with pytest.raises(
        ValueError, match=r"^Timed needs context\.time, and experts on a stream get rows alone$"
    ):
        Timed(4)


def test_lessons_say_who_learns_what() -> None:
    layer = MoE(routers.AllExperts(3, 2), Totals(2))
    layer.learn(torch.randn(3, 3), torch.ones(3), lessons=torch.tensor([[1.0, 0.0]]).expand(3, 2))
    assert layer.experts.total.tolist() == [3.0, 0.0]


def test_a_layer_learns_only_where_weights_can_be_mixed() -> None:
    x, y = torch.randn(4, 3), torch.ones(4)
    with pytest.raises(ValueError, match="no weight for each expert"):
        MoE(routers.SoftSlots(3, 2), Totals(2)).learn(x, y)
    with pytest.raises(ValueError, match="leave combiner out"):
        MoE(routers.AllExperts(3, 2), Totals(2), combiner=Stack()).learn(x, y)
