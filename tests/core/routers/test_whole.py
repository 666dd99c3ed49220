"""WholeSegment: one decision for all tokens of a segment."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from collegium import Context, MoE, experts
from collegium.gates import Attended, Conditioned, Residual
from collegium.routers import (
    Base,
    DenseToSparse,
    ExpertChoice,
    FixedPlusRouted,
    Hash,
    NoisyTopK,
    Recurrent,
    Router,
    SoftSlots,
    Switch,
    TopK,
    TopP,
    WholeSegment,
)
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold

D, E = 5, 4
SEGMENT = torch.tensor([7, 0, 7, 7, 0, -2, 7, 0])
MASK = torch.tensor([True, True, False, True, True, False, True, False])
INNER: dict[str, Any] = {
    "TopK": TopK,
    "TopK k=1": partial(TopK, k=1),
    "TopP": partial(TopP, p=0.5),
    "DenseToSparse": partial(DenseToSparse, threshold=0.2),
    "ExpertChoice": partial(ExpertChoice, k=1),
    "Switch": partial(Switch, capacity_factor=None),
}


def means_by_hand(x: Tensor, segment: list[int], real: list[bool]) -> dict[int, Tensor]:
    """Segment -> mean of its real tokens; segments without any are left out."""
    members = {s: [t for t in range(len(x)) if segment[t] == s and real[t]] for s in sorted(set(segment))}
    return {s: sum(x[t] for t in line) / len(line) for s, line in members.items() if line}  # type: ignore[misc]


def by_hand(router: WholeSegment, x: Tensor, segment: list[int], real: list[bool]) -> Tensor:
    means = means_by_hand(x, segment, real)
    decided = dict(zip(means, router.router(torch.stack([*means.values()])).dense_weight(), strict=True))
    return torch.stack([decided[s] if r else x.new_zeros(E) for s, r in zip(segment, real, strict=True)])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", INNER)
def test_all_tokens_go_where_the_mean_of_their_segment_goes(name: str, masked: bool) -> None:
    router, x = WholeSegment(D, E, INNER[name]).double().eval(), torch.randn(8, D).double()
    real = MASK.tolist() if masked else [True] * 8
    routing = router(x, Context(segment=SEGMENT, mask=MASK if masked else None))
    table = routing.dense_weight()
    torch.testing.assert_close(table, by_hand(router, x, SEGMENT.tolist(), real))
    assert torch.equal(routing.selected(), table > 0)
    for s in SEGMENT.unique():
        assert len(table[(s == SEGMENT) & torch.tensor(real)].unique(dim=0)) <= 1


def test_masked_tokens_do_not_matter() -> None:
    router, x = WholeSegment(D, E).double(), torch.randn(8, D).double()
    context = Context(segment=SEGMENT, mask=MASK)
    spoiled = torch.where(MASK[:, None], x, 1e6)
    assert torch.equal(router(spoiled, context).dense_weight(), router(x, context).dense_weight())


@pytest.mark.parametrize("inner", [partial(ExpertChoice, k=1), Base])
def test_segments_of_masked_tokens_take_no_place(inner: Any) -> None:
    router, x = WholeSegment(D, 2, inner).double(), torch.randn(12, D).double()
    segment, mask = torch.arange(12) // 2, torch.arange(12) < 8
    masked = router(x, Context(segment=segment, mask=mask))
    alone = router(x[:8], Context(segment=segment[:8]))
    torch.testing.assert_close(masked.dense_weight()[:8], alone.dense_weight())
    assert not masked.dense_weight()[8:].any()


def test_without_names_a_segment_is_an_index_of_the_first_dim() -> None:
    layer = MoE(WholeSegment(D, E), experts.MLP(D, E, hidden=3))
    x = torch.randn(3, 4, D)
    y, routing = layer(x, return_routing=True)
    torch.testing.assert_close(y, torch.stack([layer(sequence) for sequence in x]))
    by_sequence = routing.dense_weight().view(3, 4, E)
    assert torch.equal(by_sequence, by_sequence[:, :1].expand(3, 4, E))
    assert len(by_sequence[:, 0].unique(dim=0)) == 3


def test_the_order_of_tokens_does_not_matter() -> None:
    router, x, order = WholeSegment(D, E).double(), torch.randn(8, D).double(), torch.randperm(8)
    table = router(x, Context(segment=SEGMENT)).dense_weight()
    permuted = router(x[order], Context(segment=SEGMENT[order])).dense_weight()
    torch.testing.assert_close(permuted, table[order])


@pytest.mark.parametrize("inner", [Hash, partial(TopK, gate=partial(Conditioned, by="label"))])
def test_a_segment_is_known_by_its_first_real_token(inner: Any) -> None:
    router, x = WholeSegment(D, E, inner).double(), torch.randn(6, D).double()
    assert router.needs == ("label",)
    segment, mask = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([False, True, True, True, True, True])
    label = torch.tensor([7, 3, 1, 4, 0, 2])
    found = router(x, Context(segment=segment, mask=mask, label=label)).dense_weight()
    means = torch.stack([x[1:3].mean(0), x[3:].mean(0)])
    wanted = router.router(means, Context(label=torch.tensor([3, 4]))).dense_weight()
    torch.testing.assert_close(found[[1, 2, 3, 4, 5]], wanted[[0, 0, 1, 1, 1]])


@pytest.mark.parametrize("inner", [TopK, partial(TopP, p=0.5)])
def test_gradients_are_those_of_differences(inner: Any) -> None:
    context = Context(segment=SEGMENT, mask=MASK)
    assert gradients_hold(WholeSegment(3, E, inner).double(), doubles(8, 3), context)


def test_scores_are_those_of_the_means() -> None:
    router, x = WholeSegment(D, E).double(), torch.randn(8, D).double()
    means = means_by_hand(x, SEGMENT.tolist(), [True] * 8)
    wanted = torch.stack([means[s] for s in SEGMENT.tolist()]) @ router.router.gate.weight.T
    routing = router(x, Context(segment=SEGMENT))
    torch.testing.assert_close(routing.logits, wanted)
    torch.testing.assert_close(routing.probs, wanted.softmax(1))


def test_the_schedule_is_handed_on() -> None:
    router = WholeSegment(D, E, DenseToSparse)
    router.anneal(1.0)
    assert (router(torch.randn(8, D)).experts_per_token() == 1).all()


def test_it_says_that_it_is_not_causal() -> None:
    assert not WholeSegment(D, E).causal


def test_a_router_of_slots_is_refused() -> None:
    inner: type[Router] = SoftSlots
    with pytest.raises(ValueError, match=r"WholeSegment needs a router that assigns tokens, not SoftSlots$"):
        WholeSegment(D, E, inner)(torch.randn(8, D))


def test_state_and_extras_are_handed_to_the_tokens() -> None:
    x, context = torch.randn(8, D), Context(segment=SEGMENT)
    router = WholeSegment(D, E, partial(Recurrent, state_dim=3))
    state = router(x, context).state
    means = means_by_hand(x, SEGMENT.tolist(), [True] * 8)
    wanted = router.router(torch.stack([means[s] for s in SEGMENT.tolist()])).state
    torch.testing.assert_close(state, wanted)
    load = WholeSegment(D, E, NoisyTopK)(x, context).extras["load"]
    assert load.shape == (8, E)
    assert torch.equal(load[0], load[2])
    assert not torch.equal(load[0], load[1])


def test_routers_that_look_back_hear_the_mean_of_the_layer_before() -> None:
    x, context = torch.randn(8, D).double(), Context(segment=SEGMENT, mask=MASK)
    first = TopK(D, E).double()(x)
    spoiled = replace(first, logits=first.logits.where(MASK[:, None], torch.nan))
    router = WholeSegment(D, E, partial(TopK, gate=Residual)).double()
    found = router(x, context, spoiled).logits
    gate = router.router.gate
    now, then = (means_by_hand(v, SEGMENT.tolist(), MASK.tolist()) for v in (x, first.logits))
    for t in range(8):
        s = int(SEGMENT[t])
        if s in now:
            wanted = now[s] @ gate.gate.weight.T + then[s] @ gate.carry.T
            torch.testing.assert_close(found[t], wanted)


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (Switch, "capacity"),
        (partial(FixedPlusRouted, router=partial(TopK, capacity_factor=2.0)), "capacity"),
        (partial(TopK, gate=Attended), "affinity"),
    ],
)
def test_what_has_no_meaning_for_segments_is_refused(inner: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"WholeSegment routes segments, .*{words}"):
        WholeSegment(D, E, inner)
