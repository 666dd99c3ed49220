"""Segments: tokens laid out by segment and brought back."""

import pytest
import torch
from collegium import Context, MoE
from collegium.experts import MLP
from collegium.routers import ExpertChoice, Router, SoftSlots, WholeSegment
from collegium.segments import Segments
from hypothesis import given
from hypothesis import strategies as st

from tests.core.blocks import examples


def by_hand(segment: list[int], real: list[bool]) -> tuple[list[list[int]], list[list[bool]]]:
    """The tokens of each segment in order, and which of the L places hold a real token."""
    tokens = [[t for t in range(len(segment)) if segment[t] == s] for s in sorted(set(segment))]
    L = max((len(line) for line in tokens), default=1)
    places = [[i < len(line) and real[line[i]] for i in range(L)] for line in tokens]
    return tokens, places


@examples(80)
@given(tokens=st.integers(0, 12), kinds=st.integers(1, 4), masked=st.booleans(), seed=st.integers(0, 2**16))
def test_named_segments_of_any_length(tokens: int, kinds: int, masked: bool, seed: int) -> None:
    torch.manual_seed(seed)
    segment = torch.randint(kinds, (tokens,)) * 7 - 3
    mask = torch.rand(tokens) < 0.6 if masked else torch.ones(tokens, dtype=torch.bool)
    x = torch.randn(tokens, 2)
    segments = Segments.of(x, Context(segment=segment, mask=mask if masked else None))
    members, places = by_hand(segment.tolist(), mask.tolist())
    assert segments.real.tolist() == places
    assert segments.index.shape == segments.real.shape
    laid_out = segments.lay_out(x)
    for line, found in zip(members, laid_out, strict=True):
        assert torch.equal(found[: len(line)], x[line])
    assert torch.equal(segments.take_back(laid_out), x)


@pytest.mark.parametrize("shape", [(3, 4), (1, 12), (12, 1), (2, 3, 2), (12,), ()])
@pytest.mark.parametrize("masked", [False, True])
def test_without_names_the_first_dim_counts(shape: tuple[int, ...], masked: bool) -> None:
    tokens = torch.Size(shape).numel()
    B = shape[0] if len(shape) > 1 else 1
    mask = torch.rand(tokens) < 0.6 if masked else torch.ones(tokens, dtype=torch.bool)
    x = torch.randn(tokens, 2)
    context = Context(mask=mask.view(shape) if masked else None).flatten(torch.Size(shape))
    segments = Segments.of(x, context)
    assert segments.index.tolist() == torch.arange(tokens).view(B, -1).tolist()
    assert torch.equal(segments.real, mask.view(B, -1))
    assert torch.equal(segments.lay_out(x), x.view(B, -1, 2))
    assert torch.equal(segments.take_back(segments.lay_out(x)), x)


def test_without_a_shape_the_whole_input_is_one_segment() -> None:
    assert Segments.of(torch.randn(5, 2), Context()).index.tolist() == [[0, 1, 2, 3, 4]]


def test_names_may_begin_anew_in_each_row() -> None:
    segment = torch.tensor([[0, 1, 1], [0, 0, 0]])
    context = Context(segment=segment).flatten(torch.Size((2, 3)))
    segments = Segments.of(torch.randn(6, 2), context)
    assert segments.real.tolist() == [[True, False, False], [True, True, False], [True] * 3]
    assert segments.index[segments.real].tolist() == [0, 1, 2, 3, 4, 5]
    flat = Segments.of(torch.randn(6, 2), Context(segment=segment.flatten()).flatten(torch.Size((6,))))
    assert flat.real.tolist() == [[True] * 4, [True, True, False, False]]


@pytest.mark.parametrize("router", [SoftSlots, ExpertChoice, WholeSegment])
def test_rows_of_a_batch_do_not_mix(router: type[Router]) -> None:
    """Packed sequences, whose ids begin anew, are routed as in a batch of their row alone."""
    layer = MoE(router(4, 3), MLP(4, 3, hidden=5)).double()
    x = torch.randn(3, 6, 4, dtype=torch.float64)
    segment = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
    y = layer(x, Context(segment=segment))
    for row in range(3):
        torch.testing.assert_close(y[row], layer(x[row], Context(segment=segment[row])))


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0)])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_no_tokens_make_no_segments(shape: tuple[int, ...], named: bool, masked: bool) -> None:
    segment = torch.zeros(shape, dtype=torch.int64) if named else None
    mask = torch.zeros(shape, dtype=torch.bool) if masked else None
    x = torch.randn(0, 2)
    segments = Segments.of(x, Context(segment=segment, mask=mask).flatten(torch.Size(shape)))
    laid_out = segments.lay_out(x)
    assert not laid_out.numel()
    assert laid_out.shape[2:] == (2,)
    assert segments.take_back(laid_out).shape == (0, 2)


def test_gradient_goes_out_and_back() -> None:
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    segments = Segments.of(x, Context(segment=torch.tensor([1, 0, 1, 1, 5, 0])))
    assert torch.autograd.gradcheck(lambda x: segments.take_back(segments.lay_out(x) ** 2), x)
