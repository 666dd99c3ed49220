"""Top-p: the fewest experts that reach p, and how their number follows doubt."""

import pytest
import torch
from collegium.routers import TopP
from hypothesis import given
from hypothesis import strategies as st

from tests.core.blocks import examples


def with_identity_gate(num_experts: int, p: float) -> TopP:
    router = TopP(num_experts, num_experts, p)
    torch.nn.init.eye_(router.gate.weight)
    return router


@examples(60)
@given(
    tokens=st.integers(0, 10),
    num_experts=st.integers(1, 6),
    p=st.floats(0.01, 0.999),
    seed=st.integers(0, 2**16),
)
def test_the_fewest_experts_that_reach_p(tokens: int, num_experts: int, p: float, seed: int) -> None:
    torch.manual_seed(seed)
    routing = with_identity_gate(num_experts, p).double()(3 * torch.randn(tokens, num_experts).double())
    table = routing.dense_weight()
    for probs, weights in zip(routing.probs, table, strict=True):
        falling, order = probs.sort(descending=True)
        wanted = next(i + 1 for i in range(num_experts) if falling[: i + 1].sum() >= p - 1e-12)
        chosen = torch.zeros(num_experts, dtype=torch.bool).index_fill(0, order[:wanted], True)
        torch.testing.assert_close(weights, probs * chosen)


def test_at_p_1_all_experts_are_taken() -> None:
    routing = with_identity_gate(16, 1.0)(20 * torch.randn(500, 16))
    assert (routing.experts_per_token() == 16).all()


def test_a_sure_token_gets_one_expert() -> None:
    routing = with_identity_gate(4, 0.4)(torch.tensor([[50.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    assert routing.experts_per_token().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("scale", "mean", "correlation"),
    [(0.5, 4.29, 0.82), (1.0, 2.64, 0.84), (2.0, 1.49, 0.70), (4.0, 1.09, 0.51)],
)
def test_the_number_of_experts_follows_entropy(scale: float, mean: float, correlation: float) -> None:
    routing = with_identity_gate(16, 0.4)(scale * torch.randn(20_000, 16))
    number = routing.experts_per_token().double()
    entropy = torch.special.entr(routing.probs).sum(1).double()
    assert abs(number.mean() - mean) < 0.06
    assert abs(torch.corrcoef(torch.stack([number, entropy]))[0, 1] - correlation) < 0.04
    by_bin = torch.stack([part.mean() for part in number[entropy.argsort()].chunk(8)])
    assert (by_bin.diff() >= 0).all()
    assert by_bin[-1] > by_bin[0]


@pytest.mark.parametrize("p", [0.0, -0.1, 1.1])
def test_p_outside_0_to_1_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        TopP(4, 4, p=p)
