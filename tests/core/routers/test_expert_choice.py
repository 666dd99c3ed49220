"""Expert choice: equal loads, segments and masks, against a loop over experts and segments."""

import math

import pytest
import torch
from collegium import Context, MoE, experts
from collegium.routers import ExpertChoice
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.core.blocks import examples


def by_brute_force(logits: Tensor, k: int, segment: list[int], real: list[bool]) -> Tensor:
    """(T, E) weights: in each segment each expert takes its ceil(k * n / E) most probable real tokens.

    A token's probabilities are a softmax over the experts.
    """
    probs = logits.exp() / logits.exp().sum(1, keepdim=True)
    table = torch.zeros_like(probs)
    for s in set(segment):
        members = [t for t in range(len(segment)) if segment[t] == s and real[t]]
        for e in range(probs.shape[1]):
            ranked = sorted(members, key=lambda t: -float(probs[t, e]))
            for t in ranked[: math.ceil(k * len(members) / probs.shape[1])]:
                table[t, e] = probs[t, e]
    return table


@examples(80)
@given(
    tokens=st.integers(0, 15),
    num_experts=st.integers(1, 5),
    segmented=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 2**16),
    data=st.data(),
)
def test_experts_take_their_most_probable_tokens(
    tokens: int, num_experts: int, segmented: bool, masked: bool, seed: int, data: st.DataObject
) -> None:
    torch.manual_seed(seed)
    k = data.draw(st.integers(1, num_experts))
    segment = torch.randint(3, (tokens,)) * 7 - 1 if segmented else torch.zeros(tokens, dtype=torch.int64)
    mask = torch.rand(tokens) < 0.6 if masked else torch.ones(tokens, dtype=torch.bool)
    context = Context(segment=segment if segmented else None, mask=mask if masked else None)
    router, x = ExpertChoice(4, num_experts, k=k), torch.randn(tokens, 4)
    routing = router(x, context)
    wanted = by_brute_force((x @ router.gate.weight.T).detach(), k, segment.tolist(), mask.tolist())
    torch.testing.assert_close(routing.dense_weight(), wanted)
    assert routing.row_counts().unique().numel() == 1


def test_loads_are_equal_however_skewed_the_tokens() -> None:
    routing = ExpertChoice(4, 8, k=2)(torch.randn(100, 4) + 10 * torch.randn(4))
    assert routing.counts == math.ceil(2 * 100 / 8)
    per_token = routing.experts_per_token()
    assert per_token.float().mean() == 2
    assert per_token.min() < 2 < per_token.max()


def test_rows_of_a_batch_do_not_compete_with_one_another() -> None:
    router, block, x = ExpertChoice(4, 3), experts.MLP(4, 3, hidden=5), torch.randn(5, 6, 4)
    layer = MoE(router, block)
    together = layer(x)
    torch.testing.assert_close(together, torch.stack([layer(image) for image in x]))
    assert not torch.allclose(together, layer(x.flatten(0, 1)).view_as(x))


@pytest.mark.parametrize("options", [{}, {"mask": torch.ones(5, 6, dtype=torch.bool)}])
def test_segments_by_name_equal_rows_of_the_batch(options: dict[str, Tensor]) -> None:
    layer, x = MoE(ExpertChoice(4, 3), experts.MLP(4, 3, hidden=5)), torch.randn(5, 6, 4)
    segment = torch.tensor([9, 0, 4, -3, 1])[:, None].expand(5, 6)
    torch.testing.assert_close(layer(x, Context(segment=segment, **options)), layer(x))  # type: ignore[arg-type]


def test_the_mask_shortens_each_row_of_the_batch() -> None:
    layer, x = MoE(ExpertChoice(4, 3), experts.MLP(4, 3, hidden=5)), torch.randn(2, 6, 4)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    y = layer(x, Context(mask=mask))
    torch.testing.assert_close(y[0], layer(x[0]))
    torch.testing.assert_close(y[1, :4], layer(x[1, :4]))
    assert not y[1, 4:].any()


def test_it_says_that_it_is_not_causal() -> None:
    assert not ExpertChoice(4, 3).causal


def test_noise_explores_in_training_alone() -> None:
    router, x = ExpertChoice(5, 4, noise=0.5), torch.randn(400, 5)
    clean = x @ router.gate.weight.T
    assert 0.4 < float((router(x).logits - clean).std()) < 0.6
    torch.testing.assert_close(router.eval()(x).logits, clean)
    with pytest.raises(ValueError, match=r"noise=-1 must not be negative$"):
        ExpertChoice(5, 4, noise=-1)
