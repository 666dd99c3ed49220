"""Lookup and fixed experts: known beforehand, for some tokens or for all."""

from functools import partial
from typing import Any

import pytest
import torch
from collegium import Context, MoE, balance, experts, gates, routers
from collegium.gates import Residual
from collegium.routers import (
    AllExperts,
    Comet,
    DenseToSparse,
    FixedPlusRouted,
    Hash,
    Lookup,
    NoisyTopK,
    Recurrent,
    SoftSlots,
    Switch,
    TopK,
    TopP,
)
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold

D, E = 5, 4
TABLE = [[0], [1, 2], [3, 3, 0], [0, 1, 2, 3]]


def looked_up(router: Lookup, values: list[int], by: str = "label", **more: Tensor) -> Tensor:
    context = Context(**{by: torch.tensor(values)}, **more)  # type: ignore[arg-type]
    return router(torch.randn(len(values), D).double(), context).dense_weight()


def test_a_value_goes_to_the_experts_of_its_line_in_equal_parts() -> None:
    values = [2, 0, 1, 3, 0, 2]
    wanted = [[1 / len(set(TABLE[v])) if e in TABLE[v] else 0.0 for e in range(E)] for v in values]
    found = looked_up(Lookup(D, E, table=TABLE), values)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))


def test_without_a_table_value_v_has_expert_v() -> None:
    assert torch.equal(looked_up(Lookup(D, E), [3, 0, 2, 1]), torch.eye(E)[[3, 0, 2, 1]].double())


@pytest.mark.parametrize("by", ["label", "task", "domain", "position", "segment"])
def test_the_named_field_is_looked_up(by: Any) -> None:
    router = Lookup(D, E, by, TABLE)
    assert router.needs == (by,)
    assert torch.equal(looked_up(router, [1, 2], by), looked_up(Lookup(D, E, table=TABLE), [1, 2]))


def test_masked_tokens_go_nowhere() -> None:
    found = looked_up(Lookup(D, E, table=TABLE), [1, 1, 0], mask=torch.tensor([False, True, True]))
    assert found.any(1).tolist() == [False, True, True]


def test_a_layer_runs_the_experts_of_the_table_alone() -> None:
    block, x = experts.MLP(D, E, hidden=3), torch.randn(6, D)
    layer = MoE(Lookup(D, E, "task"), block)
    layer(x, Context(task=torch.tensor([1, 1, 3, 3, 3, 1]))).square().sum().backward()
    assert block.up.grad.flatten(1).any(1).tolist() == [False, True, False, True]


def test_nothing_is_learned() -> None:
    assert not list(Lookup(D, E).parameters())


@pytest.mark.parametrize("by", ["time", "mask", "affinity", "nothing"])
def test_a_field_that_is_no_value_is_refused(by: Any) -> None:
    with pytest.raises(ValueError, match=f"by='{by}' is not one of label, task, domain, position, segment$"):
        Lookup(D, E, by)


@pytest.mark.parametrize("table", [[], [[]], [[0], []], [[0], [4]], [[-1]]])
def test_a_table_without_experts_or_of_others_is_refused(table: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"each line of the table must name experts from 0 to 3$"):
        Lookup(D, E, table=table)


@pytest.mark.parametrize(("values", "low", "high"), [([0, 4], 0, 4), ([-1, 2], -1, 2), ([9], 9, 9)])
def test_a_value_outside_the_table_is_refused(values: list[int], low: int, high: int) -> None:
    words = rf"context\.label reaches from {low} to {high}, and the table of Lookup has the values 0 to 3$"
    with pytest.raises(ValueError, match=words):
        looked_up(Lookup(D, E, table=TABLE), values)


INNER: dict[str, Any] = {
    "TopK": TopK,
    "TopK sigmoid": partial(TopK, k=1, score="sigmoid"),
    "TopP": TopP,
    "Switch": partial(Switch, capacity_factor=0.7),
    "AllExperts": AllExperts,
    "DenseToSparse": partial(DenseToSparse, threshold=0.2),
}


@pytest.mark.parametrize("fixed", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", INNER)
def test_fixed_experts_have_weight_one_before_the_choice(name: str, masked: bool, fixed: int) -> None:
    router = FixedPlusRouted(D, E + fixed, fixed, INNER[name]).double().eval()
    x, mask = torch.randn(10, D).double(), torch.arange(10) % 3 > 0
    context = Context(mask=mask if masked else None)
    routing, chosen = router(x, context), router.router(x, context)
    weights, inner = routing.dense_weight(), chosen.dense_weight()
    for t in range(10):
        real = not masked or bool(mask[t])
        assert weights[t, :fixed].tolist() == [float(real)] * fixed
        torch.testing.assert_close(weights[t, fixed:], inner[t])
    assert torch.equal(routing.selected()[:, fixed:], chosen.selected())
    torch.testing.assert_close(routing.probs[:, fixed:], chosen.probs)
    assert not routing.probs[:, :fixed].any()
    assert (routing.logits[:, :fixed] == -torch.inf).all()


@pytest.mark.parametrize("inner", [TopK, TopP])
def test_a_fixed_expert_is_a_shared_one(inner: Any) -> None:
    """The layer equals one with a router among the others and the first expert as its shared module."""
    block = experts.MLP(D, E + 1, hidden=3)
    others = experts.MLP(D, E, hidden=3)
    others.load_state_dict({name: value[1:] for name, value in block.state_dict().items()})

    class First(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return block(x, torch.tensor([len(x)] + [0] * E))

    router, x = FixedPlusRouted(D, E + 1, router=inner), torch.randn(20, D)
    found = MoE(router, block)(x)
    torch.testing.assert_close(found, MoE(router.router, others, shared=First())(x))


def test_state_and_extras_of_the_choice_are_handed_on() -> None:
    x = torch.randn(10, D)
    recurrent = FixedPlusRouted(D, E, router=partial(Recurrent, state_dim=3))
    first = recurrent(x)
    torch.testing.assert_close(recurrent(x, None, first).state, recurrent.router(x, None, first).state)
    assert not torch.allclose(recurrent(x, None, first).state, first.state)
    noisy = FixedPlusRouted(D, E, router=NoisyTopK)(x)
    assert noisy.extras["load"].shape == (10, E)
    assert (noisy.extras["load"][:, 0] == 1).all()  # a fixed expert is sure to be chosen
    assert balance.latency_cv(noisy, [1.0] * E).isfinite()
    selectors = FixedPlusRouted(D, E, router=Comet)(x).extras["selectors"]
    assert selectors.shape == (10, 2, E)
    assert not selectors[:, :, 0].any()


def test_a_residual_gate_reads_the_scores_of_the_choice_before() -> None:
    one, other = (FixedPlusRouted(D, E, router=partial(TopK, gate=Residual)) for _ in range(2))
    x = torch.randn(10, D)
    gate = other.router.gate
    wanted = x @ gate.gate.weight.T + x @ one.router.gate.gate.weight.T @ gate.carry.T
    torch.testing.assert_close(other(x, None, one(x)).logits[:, 1:], wanted)


def test_the_schedule_is_handed_on() -> None:
    router = FixedPlusRouted(D, E, router=DenseToSparse)
    router.anneal(1.0)
    assert (router(torch.randn(10, D)).experts_per_token() == 2).all()


@pytest.mark.parametrize("inner", [TopK, TopP])
def test_gradients_are_those_of_differences(inner: Any) -> None:
    assert gradients_hold(FixedPlusRouted(3, E, router=inner).double(), doubles(5, 3))


def test_it_wants_and_promises_what_its_router_does() -> None:
    assert FixedPlusRouted(D, E, router=partial(Hash, by="task")).needs == ("task",)
    assert FixedPlusRouted(D, E).causal
    assert not FixedPlusRouted(D, E, router=Switch).causal


@pytest.mark.parametrize("fixed", [0, E, E + 1, -1])
def test_nothing_to_choose_from_is_refused(fixed: int) -> None:
    with pytest.raises(ValueError, match=f"fixed={fixed} must leave some of {E} experts to choose$"):
        FixedPlusRouted(D, E, fixed)


def test_a_router_of_slots_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"FixedPlusRouted needs a router that assigns tokens, not SoftSlots$"
    ):
        FixedPlusRouted(D, E, router=SoftSlots)(torch.randn(10, D))


def test_padding_may_hold_any_value() -> None:
    mask, label = torch.tensor([True, False, True]), torch.tensor([0, -1, 1])
    x = torch.randn(3, 4)
    routing = routers.Lookup(4, 2, table=[[0], [1]])(x, Context(label=label, mask=mask))
    assert routing.expert.tolist() == [0, 1]
    gate = gates.Conditioned(4, 2, by="label", values=2)
    assert gate(x, Context(label=label, mask=mask), None).isfinite().all()


def test_scores_of_closed_experts_do_not_spread_through_a_residual_gate() -> None:
    x = torch.randn(5, 4)
    first = routers.FixedPlusRouted(4, 4, router=partial(routers.TopK, k=1))(x)
    assert first.logits.isinf().any()
    assert routers.TopK(4, 4, gate=gates.Residual)(x, None, first).weight.isfinite().all()


def test_null_experts_and_a_residual_gate_go_together() -> None:
    inner = partial(TopP, nulls=2, gate=Residual)
    one, other = (FixedPlusRouted(D, E, router=inner) for _ in range(2))
    x = torch.randn(10, D)
    gate = other.router.gate
    wanted = x @ gate.gate.weight.T + x @ one.router.gate.gate.weight.T @ gate.carry.T
    torch.testing.assert_close(other(x, None, one(x)).logits[:, 1:], wanted)


@pytest.mark.parametrize("inner", [TopK, partial(TopP, p=0.6, nulls=2)])
@pytest.mark.parametrize("masked", [False, True])
def test_scored_weights_are_one_softmax_over_what_runs(inner: Any, masked: bool) -> None:
    router, x = (
        FixedPlusRouted(D, 6, fixed=2, router=inner, scored=True).double(),
        torch.randn(12, D).double(),
    )
    mask = torch.arange(12) % 3 > 0 if masked else None
    routing = router(x, Context(mask=mask))
    scores = torch.cat([x @ router.scores.weight.T, x @ router.router.gate.weight[:4].T], 1).exp()
    ran = routing.selected()
    weight = scores * ran
    torch.testing.assert_close(routing.dense_weight(), weight / weight.sum(1, keepdim=True).clamp(min=1e-9))
    assert not ran[:, 2:].all()
    assert torch.equal(ran[:, :2].all(1), torch.ones(12).bool() if mask is None else mask)


def test_scored_weights_need_a_router_with_scores() -> None:
    router = FixedPlusRouted(D, E, router=routers.Random, scored=True)
    with pytest.raises(ValueError, match=r"Random has no logits to weigh by: leave out scored$"):
        router(torch.randn(3, D))


@pytest.mark.parametrize("outer", [FixedPlusRouted, Recurrent, routers.WholeSegment])
@pytest.mark.parametrize("gates", [1, 2])
def test_a_router_of_several_gates_is_refused(outer: Any, gates: int) -> None:
    with pytest.raises(ValueError, match="needs a router with one output a token, not MultiGate"):
        outer(D, E, router=partial(routers.MultiGate, gates=gates))


def test_demand_is_what_was_asked_for_before_any_drop() -> None:
    tight = partial(TopK, k=1, capacity_factor=0.5)
    router, x = FixedPlusRouted(D, E + 2, router=tight), torch.randn(20, D) + 2
    asked = router.router(x).demand
    routing = router(x)
    assert torch.equal(routing.demand[1:], asked)
    assert routing.demand[0] == 20
    assert routing.demand.sum() == 40 > routing.row_counts().sum()


def test_fixed_in_fixed_hands_a_residual_gate_its_own_scores() -> None:
    inner = partial(FixedPlusRouted, router=partial(TopK, gate=Residual))
    router, x = FixedPlusRouted(D, 6, router=inner), torch.randn(10, D)
    first = router(x)
    gate = router.router.router.gate
    wanted = x @ gate.gate.weight.T + first.logits[:, 2:] @ gate.carry.T
    torch.testing.assert_close(router(x, None, first).logits[:, 2:], wanted)


def test_the_routing_tells_how_many_experts_are_fixed() -> None:
    twice = partial(routers.FixedPlusRouted, fixed=1, router=TopK)
    for router, fixed in (
        (TopK, 0),
        (twice, 1),
        (partial(routers.FixedPlusRouted, fixed=2, router=twice), 3),
    ):
        for outer in (routers.WholeSegment, routers.Recurrent):
            assert outer(D, 6, router=router)(torch.randn(7, D)).fixed == fixed
