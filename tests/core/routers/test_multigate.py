"""MultiGate: MMoE, CGC and PLE, written out."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from collegium import Context, MoE, balance
from collegium.experts import MLP, RowExperts
from collegium.gates import Conditioned, Residual, Similar
from collegium.routers import (
    AllExperts,
    DSelectK,
    ExpertChoice,
    Hash,
    MultiGate,
    NoisyTopK,
    Recurrent,
    SoftSlots,
    TopK,
    TopP,
)
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold
from tests.core.reference import one_expert

D, E, T = 3, 4, 5
SEEN = [[True, True, False, False], [False, True, True, True]]
RESIDUAL = partial(AllExperts, gate=Residual)


def mixed_by_hand(
    gates: list[Tensor], visible: list[list[bool]], read: list[Tensor], rows: list[Tensor]
) -> Tensor:
    """(G, out) for one token: each gate's softmax over the experts it sees, from what it reads."""
    outputs = []
    for W, seen, token in zip(gates, visible, read, strict=True):
        raised = [torch.exp(W[e] @ token) if seen[e] else None for e in range(len(rows))]
        total = sum(value for value in raised if value is not None)
        outputs.append(sum(value / total * rows[e] for e, value in enumerate(raised) if value is not None))
    return torch.stack(outputs)  # type: ignore[arg-type]


def weights_of(router: MultiGate) -> list[Tensor]:
    """(E, D) weights of each gate, zeros for what it does not see."""
    found = []
    for gate, seen in zip(router.gates, router.visible, strict=True):
        table = torch.zeros(len(seen), gate.dim, dtype=gate.gate.weight.dtype)
        found.append(table.index_copy(0, seen.nonzero()[:, 0], gate.gate.weight))
    return found


def block(num_experts: int = E, out: int = 2) -> MLP:
    return MLP(D, num_experts, hidden=4, out_dim=out).double()


@pytest.mark.parametrize("dispatch", ["auto", "dense"])
@pytest.mark.parametrize("gates", [1, 3])
@pytest.mark.parametrize("masked", ["not at all", "with ones"])
def test_all_ones_is_mmoe(dispatch: str, gates: int, masked: str) -> None:
    visible = None if masked == "not at all" else [[True] * E] * gates
    router, mlp, x = MultiGate(D, E, gates, visible).double(), block(), torch.randn(T, D).double()
    y = MoE(router, mlp, dispatch=dispatch)(x)  # type: ignore[arg-type]
    for t in range(T):
        rows = [one_expert(mlp, e, x[t]) for e in range(E)]
        wanted = [sum((W @ x[t]).softmax(0)[e] * rows[e] for e in range(E)) for W in weights_of(router)]
        torch.testing.assert_close(y[t], torch.stack(wanted))


@pytest.mark.parametrize("dispatch", ["auto", "dense"])
def test_a_gate_is_a_softmax_over_what_it_sees(dispatch: str) -> None:
    router, mlp, x = MultiGate(D, E, 2, SEEN).double(), block(), torch.randn(T, D).double()
    y = MoE(router, mlp, dispatch=dispatch)(x)  # type: ignore[arg-type]
    for t in range(T):
        rows = [one_expert(mlp, e, x[t]) for e in range(E)]
        torch.testing.assert_close(y[t], mixed_by_hand(weights_of(router), SEEN, [x[t]] * 2, rows))


@pytest.mark.parametrize("dispatch", ["auto", "dense"])
@pytest.mark.parametrize("gate", [0, 1])
def test_an_expert_out_of_sight_gets_exactly_no_gradient(dispatch: str, gate: int) -> None:
    layer = MoE(MultiGate(D, E, 2, SEEN), MLP(D, E, hidden=4), dispatch=dispatch)  # type: ignore[arg-type]
    layer(torch.randn(50, D))[:, gate].square().sum().backward()
    for e in range(E):
        touched = [bool(p.grad[e].any()) for p in layer.experts.parameters()]
        assert touched == [SEEN[gate][e]] * 2
    assert layer.router.gates[gate].gate.weight.grad.any(1).all()
    assert not layer.router.gates[1 - gate].gate.weight.grad.any()


def test_masked_tokens_get_zeros_for_each_gate() -> None:
    layer, x = MoE(MultiGate(D, E, 2, SEEN), MLP(D, E, hidden=4)), torch.randn(T, D)
    mask = torch.tensor([True, False, True, False, True])
    torch.testing.assert_close(layer(x, Context(mask=mask)), layer(x) * mask[:, None, None])


def test_two_levels_are_those_of_ple() -> None:
    """Tasks A and B, with 2 + 1 own experts and 1 common one; three gates below, one for each task above."""
    visible_1 = [[True, True, False, True], [False, False, True, True], [True, True, True, True]]
    read, visible_2 = [0, 0, 1, 2], [[True, True, False, True], [False, False, True, True]]
    lower = MoE(MultiGate(D, 4, 3, visible_1).double(), block(4, out=D))
    rows = RowExperts(block(4, out=2), read)
    upper = MoE(MultiGate(3 * D, 4, 2, visible_2, rows=[0, 1], height=3).double(), rows)
    x = torch.randn(T, D).double()
    y = upper(lower(x))
    assert y.shape == (T, 2, 2)
    for t in range(T):
        below = [one_expert(lower.experts, e, x[t]) for e in range(4)]
        task = mixed_by_hand(weights_of(lower.router), visible_1, [x[t]] * 3, below)
        above = [one_expert(rows.block, e, task[row]) for e, row in enumerate(read)]
        wanted = mixed_by_hand(weights_of(upper.router), visible_2, [task[0], task[1]], above)
        torch.testing.assert_close(y[t], wanted)


def test_tasks_without_a_common_expert_do_not_touch_one_another() -> None:
    visible = [[True, True, False, False], [False, False, True, True]]
    router = MultiGate(2 * D, E, 2, visible, rows=[0, 1])
    layer, x = MoE(router, RowExperts(MLP(D, E, hidden=4), [0, 0, 1, 1])), torch.randn(T, 2, D)
    other = x.clone()
    other[:, 1] += 1
    assert torch.equal(layer(x)[:, 0], layer(other)[:, 0])
    assert not torch.allclose(layer(x)[:, 1], layer(other)[:, 1])


@pytest.mark.parametrize("rows", [None, [1, 0]])
def test_gradients_are_those_of_differences(rows: list[int] | None) -> None:
    router = MultiGate(D if rows is None else 2 * D, E, 2, SEEN, rows=rows).double()
    assert gradients_hold(router, doubles(4, router.dim))


def test_scores_out_of_sight_are_minus_infinity_and_shares_sum_to_one() -> None:
    routing = MultiGate(D, E, 2, SEEN)(torch.randn(T, D))
    seen = torch.tensor(SEEN).expand(T, 2, E)
    assert torch.equal(routing.logits.isfinite(), seen)
    assert torch.equal(routing.probs > 0, seen)
    torch.testing.assert_close(routing.dense_weight().sum(1), torch.ones(T, 2))


def test_it_wants_and_promises_what_its_gates_do() -> None:
    by_label = partial(AllExperts, gate=partial(Conditioned, by="label"))
    assert MultiGate(D, E, router=by_label).needs == ("label",)
    assert MultiGate(D, E).causal
    ahead = partial(AllExperts, gate=partial(Similar, look_ahead=True))
    assert not MultiGate(D, E, router=ahead).causal


def test_no_gates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"MultiGate wants at least one gate$"):
        MultiGate(D, E, 0)


@pytest.mark.parametrize("visible", [[[True] * E], [[True] * E, [True] * 3], [[True] * E] * 3, []])
def test_a_mask_of_another_shape_is_refused(visible: list[list[bool]]) -> None:
    with pytest.raises(ValueError, match=r"visible must be 2 lists of 4 truth values$"):
        MultiGate(D, E, 2, visible)


@pytest.mark.parametrize(
    ("visible", "idle"),
    [([[True] * E, [False] * E], "gate 1"), ([[True, False, True, True]] * 2, "expert 1")],
)
def test_who_sees_nothing_and_whom_nobody_sees_are_refused(visible: list[list[bool]], idle: str) -> None:
    with pytest.raises(ValueError, match=rf"MultiGate: {idle} has nothing to do in `visible`$"):
        MultiGate(D, E, 2, visible)


@pytest.mark.parametrize("rows", [[], [0], [0, 1, 1], [0, -1], [-1, -1]])
def test_other_than_one_row_a_gate_is_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match=r"rows must name one of the item's rows for each of 2 gates$"):
        MultiGate(12, E, 2, rows=rows)


@pytest.mark.parametrize(
    ("rows", "height"), [([0, 2], None), ([0, 1], 3), ([0, 1], 1), (None, 3), (None, 2), (None, 0)]
)
def test_rows_that_do_not_divide_the_item_are_refused(rows: list[int] | None, height: int | None) -> None:
    with pytest.raises(ValueError, match=r"an item of width 4 does not have \d rows to read$"):
        MultiGate(4, E, 2, rows=rows, height=height)


def test_each_gate_hears_itself_in_the_layer_before() -> None:
    visible = [[True] * (E - 1) + [False], [True] * E]
    one, other = (MultiGate(D, E, 2, visible, router=RESIDUAL).double() for _ in range(2))
    x = torch.randn(6, D).double()
    first = one(x)
    found = other(x, None, first).logits
    for g, gate in enumerate(other.gates):
        seen = other.visible[g]
        wanted = x @ gate.gate.gate.weight.T + first.logits[:, g, seen] @ gate.gate.carry.T
        torch.testing.assert_close(found[:, g, seen], wanted)
        assert (found[:, g, ~seen] == -torch.inf).all()


def test_a_layer_before_with_other_gates_is_refused() -> None:
    x, residual = torch.randn(6, D), partial(MultiGate, D, E, router=RESIDUAL)
    with pytest.raises(ValueError, match="use as many experts and gates in both"):
        residual(gates=2)(x, None, residual(gates=3)(x))


@pytest.mark.parametrize("dispatch", ["auto", "dense"])
def test_a_gate_may_choose_among_the_experts_that_it_sees(dispatch: str) -> None:
    router = MultiGate(D, E, 2, SEEN, router=partial(TopK, k=1)).double()
    mlp, x = block(), torch.randn(T, D).double()
    y, routing = MoE(router, mlp, dispatch=dispatch)(x, return_routing=True)  # type: ignore[arg-type]
    for t in range(T):
        ran = set(routing.expert[routing.token == t].tolist())
        chosen = []
        for g, W in enumerate(weights_of(router)):
            probs = (W @ x[t]).masked_fill(~torch.tensor(SEEN[g]), -torch.inf).softmax(0)
            chosen.append(int(probs.argmax()))
            torch.testing.assert_close(y[t, g], probs.max() * one_expert(mlp, chosen[g], x[t]))
        assert ran == set(chosen)


def test_experts_a_token_are_known_where_all_run() -> None:
    assert MultiGate(D, E).experts_a_token == E
    assert MultiGate(D, E, router=TopK).experts_a_token is None


OWN = [[True, False, False, False], [False, False, True, True]]


@pytest.mark.parametrize("dispatch", ["auto", "dense"])
@pytest.mark.parametrize("router", [AllExperts, partial(TopK, k=1)])
def test_a_second_gate_weighs_own_experts_too(dispatch: str, router: type) -> None:
    """HoME's self-gate: a sigmoid of the only one, a softmax over two."""
    torch.manual_seed(1)
    with_own = MultiGate(D, E, 2, SEEN, router=router, own=OWN).double()
    mlp, x = block(), torch.randn(T, D).double()
    y = MoE(with_own, mlp, dispatch=dispatch)(x)  # type: ignore[arg-type]
    first, second = (gate.weight for gate in with_own.self_gates)
    with_own.self_gates = None
    plain = MoE(with_own, mlp)(x)
    for t in range(T):
        rows = [one_expert(mlp, e, x[t]) for e in range(E)]
        torch.testing.assert_close(y[t, 0], plain[t, 0] + (first @ x[t]).sigmoid() * rows[0])
        share = (second @ x[t]).softmax(0)
        torch.testing.assert_close(y[t, 1], plain[t, 1] + share[0] * rows[2] + share[1] * rows[3])


def test_own_experts_learn_where_the_first_gate_left_them() -> None:
    for own, learns in ((None, False), (OWN, True)):
        router = MultiGate(D, E, 2, SEEN, own=own)
        with torch.no_grad():
            router.gates[0].gate.weight.copy_(torch.tensor([[-1e4], [1e4]]).expand(2, D))
        layer = MoE(router, MLP(D, E, hidden=4))
        layer(torch.rand(T, D))[:, 0].square().sum().backward()
        assert bool(layer.experts.up.grad[0].any()) is learns


@pytest.mark.parametrize("own", [[[True] * E] * 2, [[True] + [False] * 3, [False] * 4]])
def test_own_experts_out_of_sight_or_none_are_refused(own: list[list[bool]]) -> None:
    with pytest.raises(ValueError, match="in `own` every gate must have experts, and all of them visible"):
        MultiGate(D, E, 2, SEEN, own=own)


@pytest.mark.parametrize(
    ("router", "fault"),
    [
        (partial(SoftSlots, slots=2), "SoftSlots mixes tokens into slots"),
        (partial(TopP, nulls=1), "TopP has null experts"),
        (MultiGate, "MultiGate has several outputs"),
    ],
)
def test_routers_that_cannot_be_a_gate_are_refused(router: type, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        MultiGate(D, E, 2, SEEN, router=router)(torch.randn(T, D))


def test_a_gate_that_does_not_score_leaves_no_scores() -> None:
    routing = MultiGate(D, E, 2, SEEN, router=partial(Hash, by="position"))(
        torch.randn(T, D), Context(position=torch.arange(T))
    )
    assert routing.logits is None
    torch.testing.assert_close(routing.dense_weight().sum(1), torch.ones(T, 2))


def test_each_gate_has_a_state_of_its_own_through_the_layers() -> None:
    first, second = (MultiGate(D, E, 2, SEEN, router=partial(Recurrent, state_dim=3)) for _ in range(2))
    x, later = torch.randn(T, D), torch.randn(T, D)
    before = first(x)
    assert before.state.shape == (T, 2, 3)
    after = second(later, None, before)
    for g in range(2):
        alone = second.gates[g](later, None, first.gates[g](x))
        torch.testing.assert_close(after.state[:, g], alone.state)
        torch.testing.assert_close(after.probs[:, g, torch.tensor(SEEN[g])], alone.probs)
    with pytest.raises(ValueError, match="as many experts and gates in both"):
        MultiGate(D, E, 3, router=partial(Recurrent, state_dim=3))(later, None, replace(before, logits=None))


def test_the_load_is_what_the_gates_expect_in_sum() -> None:
    router, x = MultiGate(D, E, 2, SEEN, router=partial(NoisyTopK, k=1)), torch.randn(T, D)
    torch.manual_seed(0)
    load = router(x).extras["load"]
    torch.manual_seed(0)
    wanted = torch.zeros(T, E)
    for g, gate in enumerate(router.gates):
        wanted[:, torch.tensor(SEEN[g])] += gate(x).extras["load"]
    torch.testing.assert_close(load, wanted)
    assert balance.load_cv(router(x)).requires_grad
    assert "load" not in router.eval()(x).extras


def test_own_experts_and_those_of_a_gate_without_a_choice_are_expected_for_sure() -> None:
    own = [[True, False, False, False], [False, False, True, False]]
    seen = [[True, True, True, True], [False, False, True, False]]
    router = MultiGate(D, E, 2, seen, router=partial(NoisyTopK, k=1), own=own)
    torch.manual_seed(0)
    load = router(torch.randn(T, D)).extras["load"]
    torch.testing.assert_close(load[:, 0], torch.ones(T))
    assert bool((load[:, 2] > 1).all())


def test_selectors_of_all_gates_are_driven_to_a_choice() -> None:
    router, x = MultiGate(D, E, 2, SEEN, router=partial(DSelectK, k=2)), torch.randn(T, D)
    routing = router(x)
    assert routing.extras["selectors"].shape == (T, 4, E)
    alone = torch.stack([balance.selector_entropy(gate(x)) for gate in router.gates]).mean()
    torch.testing.assert_close(balance.selector_entropy(routing), alone)


def test_a_schedule_reaches_every_gate() -> None:
    from collegium.routers import DenseToSparse

    router = MultiGate(D, E, 2, SEEN, router=DenseToSparse)
    start = router(torch.randn(T, D)).experts_per_token()
    router.anneal(1.0)
    assert router(torch.randn(T, D)).experts_per_token().sum() < start.sum()


def test_it_looks_at_other_tokens_where_its_gates_do() -> None:
    assert not MultiGate(D, E, router=ExpertChoice).causal
