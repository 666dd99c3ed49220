"""Top-k and switch: choice, weights, noise, bias, capacity."""

import math

import pytest
import torch
from collegium import Context, MoE, experts
from collegium.routers import AllExperts, Switch, TopK
from collegium.routers.topk import chance_of_selection, largest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.blocks import examples


def with_identity_gate(router: TopK) -> TopK:
    """A router whose logits are its input."""
    torch.nn.init.eye_(router.gate.weight)
    return router


LOGITS = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 0.1, 0.2, 0.3]])


def test_the_softmax_comes_before_the_cut() -> None:
    routing = with_identity_gate(TopK(4, 4, k=2))(LOGITS)
    probs = LOGITS.softmax(-1)
    wanted = torch.tensor([[True, False, True, False], [False, False, True, True]]) * probs
    torch.testing.assert_close(routing.dense_weight(), wanted)
    torch.testing.assert_close(routing.probs, probs)
    assert torch.equal(routing.logits, LOGITS)


def test_renormalized_weights_sum_to_one() -> None:
    table = with_identity_gate(TopK(4, 4, k=2, renormalize=True))(LOGITS).dense_weight()
    probs = LOGITS.softmax(-1)
    torch.testing.assert_close(table.sum(1), torch.ones(2))
    torch.testing.assert_close(table[0, 0] / table[0, 2], probs[0, 0] / probs[0, 2])


def test_at_k_1_the_router_learns_from_the_loss() -> None:
    """Steps on a loss of the outputs alone teach the router which of two fixed experts is right."""
    torch.manual_seed(0)
    router, block = TopK(2, 2, k=1), experts.ExpertGroups([experts.Zero(1), experts.Copy(1)])
    x = torch.randn(200, 2)
    right = x[:, 0] > 0  # copy these, drop the others
    layer, optimizer = MoE(router, block), torch.optim.Adam(router.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (layer(x) - right[:, None] * x).square().mean().backward()
        optimizer.step()
    chosen = router(x).dense_weight()[:, 1] > 0
    assert (chosen == right).float().mean() > 0.95


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 1, "renormalize": True}, "would never learn"),
        ({"noise": -1.0}, "noise must not be negative"),
        ({"capacity_factor": 0.0}, "capacity_factor must be positive"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TopK(4, 4, **options)


def test_k_of_all_is_the_dense_mixture() -> None:
    router, dense, x = TopK(5, 3, k=3), AllExperts(5, 3), torch.randn(7, 5)
    dense.load_state_dict(router.state_dict())
    torch.testing.assert_close(router(x).dense_weight(), dense(x).dense_weight())


@examples(40)
@given(tokens=st.integers(0, 8), num_experts=st.integers(1, 6), seed=st.integers(0, 2**16), data=st.data())
def test_largest_is_topk(tokens: int, num_experts: int, seed: int, data: st.DataObject) -> None:
    scores = torch.rand(tokens, num_experts, generator=torch.Generator().manual_seed(seed))
    k = data.draw(st.integers(1, num_experts))
    assert torch.equal(largest(scores, k), scores.topk(k, dim=1).indices)


def test_the_bias_moves_the_choice_and_never_the_weights() -> None:
    router = with_identity_gate(TopK(4, 4, k=1, bias=True))
    router.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 10.0]))
    routing = router(LOGITS)
    probs = LOGITS.softmax(-1)
    assert routing.expert.tolist() == [3, 3]
    torch.testing.assert_close(routing.weight, probs[:, 3])
    torch.testing.assert_close(routing.probs, probs)
    assert not router.bias.requires_grad


def test_noise_is_drawn_in_training_alone() -> None:
    router, x = TopK(4, 4, k=2, noise=0.7), torch.randn(5000, 4)
    clean = router.gate(x, Context(), None)
    spread = router.train()(x).logits - clean
    assert abs(spread.mean()) < 0.02
    assert abs(spread.std() - 0.7) < 0.02
    assert torch.equal(router.eval()(x).logits, clean)
    assert "load" not in router(x).extras


@pytest.mark.parametrize("k", [1, 2, 3])
def test_chance_of_selection_is_what_drawing_again_gives(k: int) -> None:
    torch.manual_seed(k)
    clean, std, draws = torch.randn(3, 4), 0.6, 40_000
    noisy = clean + std * torch.randn(3, 4)
    found = chance_of_selection(clean, noisy, k, torch.tensor(std))
    for e in range(4):
        again = noisy.repeat(draws, 1, 1)
        again[:, :, e] = clean[:, e] + std * torch.randn(draws, 3)
        kept = (again.topk(k, dim=-1).indices == e).any(-1).float().mean(0)
        torch.testing.assert_close(found[:, e], kept, atol=0.012, rtol=0)


def test_a_noisy_router_tells_its_smooth_load_unless_it_takes_all() -> None:
    x = torch.randn(10, 4)
    load = TopK(4, 4, k=2, noise=0.5)(x).extras["load"]
    assert load.shape == (10, 4)
    assert load.requires_grad
    assert "load" not in TopK(4, 4, k=4, noise=0.5)(x).extras


@examples(40)
@given(
    tokens=st.integers(1, 30),
    num_experts=st.integers(1, 5),
    factor=st.sampled_from([0.1, 0.5, 1.0, 1.25, 10.0]),
    masked=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_capacity_is_the_factor_times_the_even_share(
    tokens: int, num_experts: int, factor: float, masked: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    k = min(2, num_experts)
    router, x = TopK(3, num_experts, k=k, capacity_factor=factor), torch.randn(tokens, 3)
    mask = torch.rand(tokens) < 0.6 if masked else torch.ones(tokens, dtype=torch.bool)
    routing = router(x, Context(mask=mask) if masked else None)
    capacity = math.ceil(factor * k * int(mask.sum()) / num_experts)
    assert torch.equal(routing.counts, routing.demand.clamp(max=capacity))
    assert not router.causal


def test_switch_is_top_1_with_capacity() -> None:
    x = torch.randn(50, 4)
    switch, plain = Switch(4, 4, capacity_factor=None), TopK(4, 4, k=1)
    plain.load_state_dict(switch.state_dict())
    torch.testing.assert_close(switch(x).dense_weight(), plain(x).dense_weight())
    assert switch.causal
    limited = Switch(4, 4)
    assert limited.capacity_factor == 1.25
    assert not limited.causal
    assert limited(x).counts.max() <= math.ceil(1.25 * 50 / 4)


def test_jitter_scales_the_input_in_training_alone() -> None:
    switch, x = with_identity_gate(Switch(4, 4, jitter=0.3)), torch.rand(2000, 4) + 1
    ratio = switch.train()(x).logits / x
    assert 0.7 <= ratio.min() < 0.71
    assert 1.29 < ratio.max() <= 1.3001
    assert torch.equal(switch.eval()(x).logits, x)
    with pytest.raises(ValueError, match="jitter"):
        Switch(4, 4, jitter=1.0)
