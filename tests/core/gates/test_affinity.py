"""Similar and attended: scores shared within a segment, against loops over pairs of tokens."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from collegium import Context, MoE, experts
from collegium.gates import Attended, Conditioned, Gate, Similar
from collegium.routers import TopK
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold

D, E = 3, 4
SEGMENT = torch.tensor([7, 0, 7, 7, 0, -2, 7, 0])
MASK = torch.tensor([True, True, False, True, True, False, True, False])


def shared_by_hand(
    logits: Tensor,
    weigh: Callable[[int, int], float],
    segment: list[int],
    real: list[bool],
    look_ahead: bool,
) -> Tensor:
    """(T, E) means of the scores of all that a token may hear: real ones of its segment, and itself."""
    rows = []
    for t in range(len(logits)):
        heard = [
            j
            for j in range(len(logits))
            if j == t or (segment[j] == segment[t] and real[j] and (look_ahead or j < t))
        ]
        share = [weigh(t, j) for j in heard]
        rows.append(sum(s / sum(share) * logits[j] for s, j in zip(share, heard, strict=True)))
    return torch.stack(rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("look_ahead", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("segmented", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_similar_shares_by_a_softmax_of_likeness(
    look_ahead: bool, masked: bool, segmented: bool, temperature: float
) -> None:
    gate, x = Similar(D, E, look_ahead=look_ahead, temperature=temperature).double(), doubles(8, D)
    torch.nn.init.normal_(gate.weight)
    likeness = (x @ gate.weight @ x.T).tolist()
    segment = SEGMENT.tolist() if segmented else [0] * 8
    wanted = shared_by_hand(
        x @ gate.gate.weight.T,
        lambda t, j: math.exp(likeness[t][j] / math.sqrt(D) / temperature),
        segment,
        MASK.tolist() if masked else [True] * 8,
        look_ahead,
    )
    context = Context(segment=SEGMENT if segmented else None, mask=MASK if masked else None)
    torch.testing.assert_close(gate(x, context, None), wanted)


@pytest.mark.parametrize("look_ahead", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attended_shares_by_the_affinity_given(look_ahead: bool, masked: bool) -> None:
    gate, x = Attended(D, E, look_ahead=look_ahead).double(), doubles(8, D)
    affinity, mask = torch.rand(2, 4, 4).double(), MASK.view(2, 4)
    affinity[1, 2] = 0.0  # this one heeds nobody, and keeps its own scores
    table = affinity.tolist()
    wanted = shared_by_hand(
        x @ gate.gate.weight.T,
        lambda t, j: table[t // 4][t % 4][j % 4] if t != 6 else float(t == j),
        [t // 4 for t in range(8)],
        MASK.tolist() if masked else [True] * 8,
        look_ahead,
    )
    context = Context(affinity=affinity, mask=mask if masked else None).flatten(torch.Size((2, 4)))
    torch.testing.assert_close(gate(x, context, None), wanted)


def test_tokens_that_are_alike_score_alike() -> None:
    """Two kinds of tokens, each with noise: sharing takes the noise out and leaves the kinds apart."""
    kind = torch.arange(40) % 2
    x = 4 * torch.nn.functional.one_hot(kind, D) + torch.randn(40, D)
    gate = Similar(D, E, look_ahead=True)
    plain, shared = gate.gate(x, Context(), None), gate(x, Context(), None)
    for logits, smaller in ((plain, False), (shared, True)):
        within = torch.stack([logits[kind == i].std(0) for i in (0, 1)]).mean()
        between = (logits[kind == 0].mean(0) - logits[kind == 1].mean(0)).abs().mean()
        assert bool(within < 0.2 * between) is smaller


def test_who_heeds_itself_alone_keeps_its_scores() -> None:
    gate, x = Attended(D, E), torch.randn(6, D)
    context = Context(affinity=torch.eye(3).repeat(2, 1, 1)).flatten(torch.Size((2, 3)))
    torch.testing.assert_close(gate(x, context, None), x @ gate.gate.weight.T)


def test_who_heeds_all_alike_gets_the_mean_of_its_sequence() -> None:
    gate, x = Attended(D, E, look_ahead=True), torch.randn(2, 3, D)
    context = Context(affinity=torch.full((2, 3, 3), 0.2)).flatten(torch.Size((2, 3)))
    wanted = (x @ gate.gate.weight.T).mean(1, keepdim=True).expand(2, 3, E)
    torch.testing.assert_close(gate(x.flatten(0, 1), context, None), wanted.flatten(0, 1))


def test_sequences_of_a_batch_do_not_hear_one_another() -> None:
    layer = MoE(TopK(D, E, gate=partial(Similar, look_ahead=True)), experts.MLP(D, E, hidden=2))
    x = torch.randn(3, 5, D)
    torch.testing.assert_close(layer(x), torch.stack([layer(sequence) for sequence in x]))
    assert not torch.allclose(layer(x), layer(x.flatten(0, 1)).view_as(x))


@pytest.mark.parametrize("look_ahead", [False, True])
@pytest.mark.parametrize("cls", [Similar, Attended])
def test_gradients_are_those_of_differences(cls: type[Any], look_ahead: bool) -> None:
    context = Context(affinity=torch.rand(2, 4, 4), mask=MASK.view(2, 4)).flatten(torch.Size((2, 4)))
    gate = cls(D, E, look_ahead=look_ahead).double()
    assert gradients_hold(gate, doubles(8, D), context, read=lambda logits: logits)


def test_the_affinity_itself_gets_gradient() -> None:
    affinity = torch.rand(2, 4, 4).double().requires_grad_()
    context = Context(affinity=affinity).flatten(torch.Size((2, 4)))
    Attended(D, E, look_ahead=True).double()(doubles(8, D), context, None).square().sum().backward()
    assert affinity.grad.all()


@pytest.mark.parametrize("cls", [Similar, Attended])
def test_they_are_causal_unless_they_look_ahead_or_their_gate_does(cls: type[Any]) -> None:
    def inner(dim: int, num_experts: int) -> Gate:
        return Similar(dim, num_experts, look_ahead=True)

    assert cls(D, E).causal
    assert not cls(D, E, look_ahead=True).causal
    assert not cls(D, E, inner).causal


def test_they_need_what_their_gate_needs() -> None:
    by_label = partial(Conditioned, by="label")
    assert Similar(D, E, by_label).needs == ("label",)
    assert Attended(D, E, by_label).needs == ("affinity", "label")


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_not_above_zero_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"Similar: temperature={temperature} must be positive$"):
        Similar(D, E, temperature=temperature)


def test_an_affinity_and_segments_exclude_one_another() -> None:
    context = Context(affinity=torch.rand(8, 8), segment=SEGMENT)
    with pytest.raises(ValueError, match=r"leave context\.segment out$"):
        Attended(D, E)(torch.randn(8, D), context, None)
