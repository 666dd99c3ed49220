"""SoftSlots: the equations of Soft MoE, by segment."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from collegium import Context, MoE, Routing, experts
from collegium.routers import SoftSlots
from collegium.slots import SlotRouting
from torch import Tensor, nn

from tests.core.blocks import doubles, gradients_hold
from tests.core.reference import one_expert

D, E, S = 3, 4, 2
SEGMENT = torch.tensor([7, 0, 7, 7, 0, -2, 7, 0])
MASK = torch.tensor([True, True, False, True, True, False, True, False])
CASES = [(None, None), (SEGMENT, None), (None, MASK), (SEGMENT, MASK)]
IDS = ["plain", "segments", "mask", "segments and mask"]


def length(vector: list[float]) -> float:
    return math.sqrt(sum(v * v for v in vector))


def scores_by_hand(router: SoftSlots, x: Tensor) -> list[list[float]]:
    """(T, E * S): s * cos(x, phi)."""
    scale = router.scale.item()
    return [
        [
            scale * sum(a * b for a, b in zip(token, key, strict=True)) / length(token) / length(key)
            for key in router.keys.tolist()
        ]
        for token in x.tolist()
    ]


def shares_by_hand(
    router: SoftSlots, x: Tensor, segment: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(T, E, S) each: softmax over the real tokens of the segment, softmax over slots."""
    z, T = scores_by_hand(router, x), len(x)
    names = [0] * T if segment is None else segment.tolist()
    real = [True] * T if mask is None else mask.tolist()
    into, out_of = torch.zeros(T, E * S).double(), torch.zeros(T, E * S).double()
    for t in range(T):
        if not real[t]:
            continue
        others = [j for j in range(T) if names[j] == names[t] and real[j]]
        for slot in range(E * S):
            into[t, slot] = math.exp(z[t][slot]) / sum(math.exp(z[j][slot]) for j in others)
            out_of[t, slot] = math.exp(z[t][slot]) / sum(math.exp(value) for value in z[t])
    return into.view(T, E, S), out_of.view(T, E, S)


@pytest.mark.parametrize("shape", [(0, D), (0, 4, D), (3, 0, D)])
def test_no_tokens_give_no_tokens(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    layer = MoE(SoftSlots(D, E, S), experts.MLP(D, E, hidden=5, out_dim=2))
    y = layer(x)
    assert y.shape == (*shape[:-1], 2)
    y.sum().backward()
    assert x.grad.shape == shape


def soft(scale: float = 3.0, dim: int = D) -> SoftSlots:
    return SoftSlots(dim, E, S, scale).double()


@pytest.mark.parametrize(("segment", "mask"), CASES, ids=IDS)
def test_shares_are_softmaxes_over_tokens_and_over_slots(segment: Any, mask: Any) -> None:
    router, x = soft(), torch.randn(8, D).double()
    routing = router(x, Context(segment=segment, mask=mask))
    into, out_of = shares_by_hand(router, x, segment, mask)
    torch.testing.assert_close(routing.into, into)
    torch.testing.assert_close(routing.out_of, out_of)


@pytest.mark.parametrize(("segment", "mask"), CASES, ids=IDS)
def test_a_token_is_the_mean_of_the_outputs_of_its_segments_slots(segment: Any, mask: Any) -> None:
    router, block, x = soft(), experts.MLP(D, E, hidden=4, out_dim=2).double(), torch.randn(8, D).double()
    into, out_of = shares_by_hand(router, x, segment, mask)
    names = [0] * 8 if segment is None else segment.tolist()
    wanted = torch.zeros(8, 2).double()
    for t in range(8):
        members = [j for j in range(8) if names[j] == names[t]]
        for e in range(E):
            for s in range(S):
                slot = sum(into[j, e, s] * x[j] for j in members)
                wanted[t] += out_of[t, e, s] * one_expert(block, e, slot).detach()
    torch.testing.assert_close(MoE(router, block)(x, Context(segment=segment, mask=mask)), wanted)


def test_rows_of_a_batch_do_not_mix() -> None:
    layer, x = MoE(soft(), experts.MLP(D, E, hidden=4).double()), torch.randn(3, 5, D).double()
    torch.testing.assert_close(layer(x), torch.stack([layer(image) for image in x]))
    assert not torch.allclose(layer(x), layer(x.flatten(0, 1)).view_as(x))


def test_tokens_in_another_order_give_outputs_in_that_order() -> None:
    layer, x = MoE(soft(), experts.MLP(D, E, hidden=4).double()), torch.randn(8, D).double()
    order = torch.randperm(8)
    torch.testing.assert_close(layer(x[order]), layer(x)[order])
    context, permuted = Context(segment=SEGMENT, mask=MASK), Context(segment=SEGMENT[order], mask=MASK[order])
    torch.testing.assert_close(layer(x[order], permuted), layer(x, context)[order])


@pytest.mark.parametrize(("segment", "mask"), CASES, ids=IDS)
def test_the_shares_of_a_slot_and_those_of_a_token_sum_to_one(segment: Any, mask: Any) -> None:
    routing = soft()(torch.randn(8, D).double(), Context(segment=segment, mask=mask))
    names = torch.zeros(8, dtype=torch.int64) if segment is None else segment
    real = torch.ones(8, dtype=torch.bool) if mask is None else mask
    for name in names.unique():
        whole = routing.into[names == name].sum(0)
        has_any = bool(real[names == name].any())
        torch.testing.assert_close(whole, torch.full_like(whole, float(has_any)))
    torch.testing.assert_close(routing.out_of.sum((1, 2)), real.double())


def test_a_segment_of_masked_tokens_alone_gives_zeros_and_finite_gradients() -> None:
    layer, x = MoE(soft(), experts.MLP(D, E, hidden=4).double()), doubles(8, D)
    mask = SEGMENT != 0
    y = layer(x, Context(segment=SEGMENT, mask=mask))
    assert not y[~mask].any()
    torch.testing.assert_close(y[mask], layer(x[mask], Context(segment=SEGMENT[mask])))
    y.square().sum().backward()
    assert all(value.grad.isfinite().all() for value in (x, *layer.parameters()))


def test_the_length_of_a_token_does_not_move_its_shares() -> None:
    router, x = soft(), torch.randn(8, D).double()
    stretched = router(x * torch.rand(8, 1).double().add(0.1))
    torch.testing.assert_close(stretched.into, router(x).into)
    torch.testing.assert_close(stretched.out_of, router(x).out_of)


def test_a_great_scale_makes_each_slot_one_token() -> None:
    into = soft(scale=1e5)(torch.randn(8, D).double()).into
    torch.testing.assert_close(into.amax(0), torch.ones(E, S).double())


def test_experts_run_as_many_slots_however_long_the_segment() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return x

    layer = MoE(SoftSlots(D, E, S), experts.ExpertList([Spy() for _ in range(E)]))
    for tokens in (1, 50):
        layer(torch.randn(3, tokens, D))
    assert seen == [3 * S] * 2 * E


@pytest.mark.parametrize("share", ["into", "out_of"])
@pytest.mark.parametrize(("segment", "mask"), [CASES[0], CASES[3]], ids=[IDS[0], IDS[3]])
def test_gradients_are_those_of_differences(share: str, segment: Any, mask: Any) -> None:
    context = Context(segment=segment, mask=mask)
    assert gradients_hold(soft(), doubles(8, D), context, read=lambda routing: getattr(routing, share))


def test_it_says_that_it_is_not_causal_and_what_it_makes() -> None:
    assert not soft().causal
    assert isinstance(soft()(torch.randn(3, D)), SlotRouting)


def test_no_slots_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SoftSlots wants at least one slot$"):
        SoftSlots(D, E, slots=0)


def test_a_combiner_of_rows_and_experts_with_context_are_refused() -> None:
    class Sum(nn.Module):
        def forward(self, y: Tensor, routing: Routing, x: Tensor) -> Tensor:
            return y

    block = experts.MLP(D, E, hidden=4)
    needy = experts.MLP(D, E, hidden=4)
    needy.needs = ("label",)
    build = partial(MoE, SoftSlots(D, E, S))
    for layer in (build(block, combiner=Sum()), build(needy)):
        with pytest.raises(ValueError, match=r"SoftSlots mixes tokens into slots.*use another router$"):
            layer(torch.randn(5, D), Context(label=torch.zeros(5, dtype=torch.int64)))
