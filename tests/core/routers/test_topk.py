"""Top-k and switch: choice, weights, noise, bias, capacity, gates."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from collegium import Context, MoE, Routing, balance, experts, gates
from collegium.routers import AllExperts, EqualPerGroup, NoisyTopK, Switch, TopK
from collegium.routers.topk import chance_of_selection, largest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.core.blocks import doubles, examples, gradients_hold


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
        ({"score": "tanh"}, "unknown score 'tanh': choose 'softmax' or 'sigmoid'"),
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


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("k", [2, 3])
def test_a_sigmoid_scores_each_expert_alone(k: int, renormalize: bool) -> None:
    router = TopK(3, 5, k, renormalize, score="sigmoid").double()
    x = torch.randn(20, 3).double()
    routing = router(x)
    table = torch.zeros(20, 5).double()
    for t, z in enumerate((x @ router.gate.weight.T).tolist()):
        scores = [sigmoid(value) for value in z]
        chosen = sorted(range(5), key=lambda e: -scores[e])[:k]
        for e in chosen:
            table[t, e] = scores[e] / (sum(scores[i] for i in chosen) if renormalize else 1)
        wanted = torch.tensor(scores).double() / sum(scores)
        torch.testing.assert_close(routing.probs[t], wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(routing.dense_weight(), table)


def test_a_sigmoid_weight_does_not_hang_on_the_scores_of_others() -> None:
    router = with_identity_gate(TopK(4, 4, k=2, score="sigmoid"))
    raised = LOGITS + torch.tensor([[0.0, 0.5, 0.0, 0.5], [0.5, 0.5, 0.0, 0.0]])  # those not chosen
    raised[1, :2] = LOGITS[1, :2] - 1
    assert torch.equal(router(raised).dense_weight(), router(LOGITS).dense_weight())


@pytest.mark.parametrize(
    "options",
    [{"k": 1}, {"k": 2, "renormalize": True}, {"score": "sigmoid"}, {"noise": 0.5}, {"bias": True}],
)
def test_gradients_are_those_of_differences(options: dict[str, Any]) -> None:
    assert gradients_hold(TopK(3, 4, **options).double(), doubles(5, 3), seed=2)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_switch_are_those_of_differences(training: bool) -> None:
    router = Switch(3, 4, jitter=0.2).double().train(training)
    assert gradients_hold(router, doubles(9, 3), seed=2)


GATES = {
    "cosine": gates.Cosine,
    "centroid": gates.Centroid,
    "by label": partial(gates.Conditioned, by="label"),
    "similar": gates.Similar,
    "residual": gates.Residual,
}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("cls", [TopK, NoisyTopK, Switch])
def test_any_gate_gives_the_scores(name: str, cls: type[Any]) -> None:
    router, x = cls(3, 4, gate=GATES[name]).double().eval(), torch.randn(10, 3).double()
    context, last = Context(label=torch.arange(10) % 8), TopK(3, 4).double()(x)
    logits = router.gate(x, context, last)
    routing = router(x, context, last)
    torch.testing.assert_close(routing.logits, logits)
    torch.testing.assert_close(routing.probs, logits.softmax(1))
    if cls is not Switch:
        assert torch.equal(
            routing.selected().nonzero()[:, 1].view(10, 2), logits.topk(2).indices.sort().values
        )


def test_what_its_gate_needs_and_cannot_promise_a_router_does_too() -> None:
    assert TopK(3, 4, gate=GATES["by label"]).needs == ("label",)
    assert TopK(3, 4, gate=gates.Similar).causal
    assert not TopK(3, 4, gate=partial(gates.Similar, look_ahead=True)).causal


def noisy(**options: Any) -> NoisyTopK:
    """A router of float64 whose noise differs by token and expert."""
    router = NoisyTopK(3, 5, **options).double()
    router.spread.data.normal_()
    return router


def std_by_hand(router: NoisyTopK, x: Tensor) -> Tensor:
    rows = [
        [math.log1p(math.exp(sum(v * i for v, i in zip(line, token, strict=True)))) + 0.01 for line in V]
        for V in [router.spread.tolist()]
        for token in x.tolist()
    ]
    return torch.tensor(rows, dtype=torch.float64)


def test_noise_has_the_size_that_is_learned() -> None:
    router, x = noisy(), torch.randn(20_000, 3).double()
    noise = (router(x).logits - x @ router.gate.weight.T) / std_by_hand(router, x)
    assert noise.mean(0).abs().max() < 0.03
    assert (noise.std(0) - 1).abs().max() < 0.03
    assert noise.T.corrcoef().sub(torch.eye(5)).abs().max() < 0.03


@pytest.mark.parametrize("k", [1, 2, 3])
def test_noise_decides_who_is_chosen_and_how_much_it_weighs(k: int) -> None:
    """softmax(KeepTopK(H)) of the paper, and at k = 1, where that is a constant, the share of one in all."""
    router, x = noisy(k=k), torch.randn(30, 3).double()
    torch.manual_seed(5)
    routing = router(x)
    torch.manual_seed(5)
    draws = torch.randn_like(router.gate(x, Context(), None))  # as they lie in memory
    H = x @ router.gate.weight.T + draws * std_by_hand(router, x)
    kept = torch.full_like(H, -torch.inf)
    for t in range(30):
        for e in sorted(range(5), key=lambda e: -H[t, e].item())[:k]:
            kept[t, e] = H[t, e]
    wanted = kept.softmax(1) if k > 1 else kept.exp() / H.exp().sum(1, keepdim=True)
    torch.testing.assert_close(routing.dense_weight(), wanted)


def test_without_training_noisy_top_k_is_top_k() -> None:
    x = torch.randn(30, 3).double()
    for told, renormalize in ((None, True), (False, False)):
        router, plain = noisy(renormalize=told).eval(), TopK(3, 5, renormalize=renormalize).double()
        plain.load_state_dict({"gate.weight": router.gate.weight})
        assert torch.equal(router(x).dense_weight(), plain(x).dense_weight())
        assert "load" not in router(x).extras


def test_the_load_is_the_chance_to_be_chosen_by_noise_drawn_again() -> None:
    router, x, draws = noisy(), torch.randn(2, 3).double(), 40_000
    routing = router(x)
    clean, std = x @ router.gate.weight.T, std_by_hand(router, x)
    for e in range(5):
        again = routing.logits.repeat(draws, 1, 1)
        again[:, :, e] = clean[:, e] + std[:, e] * torch.randn(draws, 2).double()
        kept = (again.topk(2, dim=-1).indices == e).any(-1).double().mean(0)
        torch.testing.assert_close(routing.extras["load"][:, e], kept, atol=0.012, rtol=0)


@pytest.mark.parametrize("k", [1, 2])
def test_gradients_of_noisy_top_k_are_those_of_differences(k: int) -> None:
    def load(routing: Routing) -> Tensor:
        return routing.extras["load"]

    router, x = noisy(k=k), doubles(4, 3)
    assert gradients_hold(router, x, seed=4)
    assert gradients_hold(router, x, seed=4, read=load)


def test_its_losses_even_the_loads_out() -> None:
    """From a router that prefers one expert: what importance_cv and load_cv are for."""
    router, x = NoisyTopK(3, 5), F.normalize(torch.randn(500, 3), dim=1) + torch.tensor([2.0, 0.0, 0.0])
    router.gate.weight.data[0, 0] += 1.5
    optimizer = torch.optim.Adam(router.parameters(), lr=0.03)

    def uneven() -> float:
        load = router.eval()(x).demand.double()
        router.train()
        return float(load.max() / load.mean())

    before = uneven()
    for _ in range(150):
        optimizer.zero_grad()
        routing = router(x)
        (balance.importance_cv(routing) + balance.load_cv(routing)).backward()
        optimizer.step()
    assert before > 2
    assert uneven() < 1.6


@pytest.mark.parametrize("k", [0, 6])
def test_noisy_top_k_refuses_what_top_k_refuses(k: int) -> None:
    with pytest.raises(ValueError, match=rf"NoisyTopK: k={k} must lie between 1 and num_experts=5$"):
        NoisyTopK(3, 5, k=k)
    with pytest.raises(ValueError, match=r"would never learn$"):
        NoisyTopK(3, 5, k=1, renormalize=True)


def test_the_chance_of_selection_is_told_of_the_plain_choice_alone() -> None:
    x = torch.randn(6, 4)
    assert "load" in TopK(4, 4, k=2, noise=0.5)(x).extras
    assert "load" not in TopK(4, 4, k=2, noise=0.5, bias=True)(x).extras
    assert "load" not in EqualPerGroup(4, 4, k=2, groups=2, noise=0.5)(x).extras
