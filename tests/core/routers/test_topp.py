"""Top-p: the fewest experts that reach p, and how their number follows doubt."""

import pytest
import torch
from collegium import Context, MoE, experts
from collegium.routers import TopP
from hypothesis import given
from hypothesis import strategies as st

from tests.core.blocks import doubles, examples, gradients_hold


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


@examples(60)
@given(
    tokens=st.integers(0, 8),
    num_experts=st.integers(1, 5),
    nulls=st.integers(0, 3),
    p=st.floats(0.01, 1.0),
    masked=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_null_experts_take_mass_and_are_never_run(
    tokens: int, num_experts: int, nulls: int, p: float, masked: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    router, x = TopP(3, num_experts, p, nulls).double(), 2 * torch.randn(tokens, 3).double()
    mask = torch.rand(tokens) < 0.7 if masked else torch.ones(tokens, dtype=torch.bool)
    routing = router(x, Context(mask=mask) if masked else None)
    table, all_probs = routing.dense_weight(), (x @ router.gate.weight.T).softmax(1)
    torch.testing.assert_close(routing.probs, all_probs)
    for t, probs in enumerate(all_probs.tolist()):
        wanted, mass = [0.0] * num_experts, 0.0
        for e in sorted(range(num_experts + nulls), key=lambda e: -probs[e]):
            if mass < p and mask[t] and e < num_experts:
                wanted[e] = probs[e]
            mass += probs[e]
        torch.testing.assert_close(table[t], torch.tensor(wanted, dtype=torch.float64))
    assert routing.row_counts().shape == routing.demand.shape == (num_experts,)
    assert torch.equal(routing.demand, (table > 0).sum(0))


def test_the_more_mass_null_experts_have_the_fewer_experts_run() -> None:
    """From where they are as likely as the others: long before that they only dilute the others' mass."""
    router, x, numbers = TopP(8, 6, p=0.6, nulls=2), torch.randn(2000, 8), []
    torch.nn.init.eye_(router.gate.weight)
    for mass in (0.0, 1.0, 2.0, 3.0, 4.0, 20.0):
        x[:, 6:] = 0.1 * torch.randn(2000, 2) + mass
        numbers.append(float(router(x).experts_per_token().double().mean()))
    assert numbers == sorted(set(numbers), reverse=True)
    assert numbers[0] > 2
    assert numbers[-1] == 0


def test_null_experts_without_mass_change_nothing() -> None:
    router, plain, x = TopP(8, 6, p=0.6, nulls=2), TopP(8, 6, p=0.6), torch.randn(200, 8)
    for each in (router, plain):
        torch.nn.init.eye_(each.gate.weight)
    x[:, 6:] = -100.0
    torch.testing.assert_close(router(x).dense_weight(), plain(x).dense_weight())


def test_a_token_that_prefers_null_experts_is_left_as_it_is() -> None:
    router = TopP(3, 2, p=0.5, nulls=1)
    torch.nn.init.eye_(router.gate.weight)
    x = torch.tensor([[0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])
    y = MoE(router, experts.Copy(2))(x)
    assert not y[0].any()
    torch.testing.assert_close(y[1], x[1] * x[1].softmax(0)[0])


def test_at_p_1_all_experts_are_taken_and_no_null() -> None:
    routing = TopP(4, 5, p=1.0, nulls=3)(5 * torch.randn(200, 4))
    assert (routing.experts_per_token() == 5).all()


@pytest.mark.parametrize("nulls", [0, 2])
def test_gradients_are_those_of_differences(nulls: int) -> None:
    assert gradients_hold(TopP(3, 4, 0.6, nulls).double(), doubles(6, 3))


def test_fewer_than_no_nulls_are_refused() -> None:
    with pytest.raises(ValueError, match=r"TopP: nulls=-1 must not be negative$"):
        TopP(4, 4, nulls=-1)
