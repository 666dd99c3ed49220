"""Balance losses against hand-computed values and their definitions."""

import math

import pytest
import torch
from collegium import Context, MoE, Routing, balance, experts, record
from collegium.routers import AllExperts, ExpertChoice, Hash, MultiGate, Random, SoftSlots, TopK, TopP
from torch import Tensor


def by_hand(probs: Tensor, chosen: list[list[int]], mask: Tensor | None = None) -> Routing:
    index = torch.tensor(chosen)
    logits = probs.log()
    weight = probs.gather(1, index)
    return Routing.from_topk(index, weight, probs.shape[1], mask=mask, logits=logits, probs=probs)


PROBS = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]])
ROUTING = by_hand(PROBS, [[0], [0], [2], [0]])


def test_load_balance_by_hand() -> None:
    # f = (3/4, 0, 1/4), P = (1.9, 0.9, 1.2) / 4
    wanted = 3 * (0.75 * 1.9 + 0.25 * 1.2) / 4
    torch.testing.assert_close(balance.load_balance(ROUTING), torch.tensor(wanted))


@pytest.mark.parametrize("E", [2, 8])
def test_load_balance_is_1_at_even_use_and_E_at_collapse(E: int) -> None:  # noqa: N802
    even = by_hand(torch.full((4 * E, E), 1 / E), [[t % E] for t in range(4 * E)])
    torch.testing.assert_close(balance.load_balance(even), torch.tensor(1.0))
    onto_one = torch.zeros(10, E)
    onto_one[:, 1] = 1
    torch.testing.assert_close(balance.load_balance(by_hand(onto_one, [[1]] * 10)), torch.tensor(float(E)))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_load_balance_counts_shares_of_assignments(k: int) -> None:
    routing = TopK(4, 3, k=k)(torch.randn(20, 4))
    chosen = routing.dense_weight() > 0
    fraction, mean = chosen.double().sum(0) / (20 * k), routing.probs.double().mean(0)
    torch.testing.assert_close(balance.load_balance(routing).double(), 3 * (fraction * mean).sum())


def test_load_balance_counts_wishes_not_what_capacity_left() -> None:
    router, x = TopK(4, 3, k=1), torch.randn(20, 4)
    limited = TopK(4, 3, k=1, capacity_factor=0.5)
    limited.load_state_dict(router.state_dict())
    assert torch.equal(balance.load_balance(limited(x)), balance.load_balance(router(x)))


def test_load_balance_pushes_probability_off_the_busy_expert() -> None:
    router = TopK(3, 3, k=1)
    x = torch.randn(200, 3) + 1
    optimizer = torch.optim.SGD(router.parameters(), lr=1.0)
    before = balance.load_balance(router(x)).item()
    for _ in range(100):
        optimizer.zero_grad()
        balance.load_balance(router(x)).backward()
        optimizer.step()
    assert balance.load_balance(router(x)) < min(before, 1.05)


def test_z_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    routing = Routing.dense(logits.softmax(-1), logits=logits, probs=logits.softmax(-1))
    wanted = (math.log(2) ** 2 + math.log(math.e + math.e**2) ** 2) / 2
    torch.testing.assert_close(balance.z_loss(routing), torch.tensor(wanted))


def test_entropy_by_hand() -> None:
    probs = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    wanted = (math.log(2) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)) / 3
    torch.testing.assert_close(balance.entropy(Routing.dense(probs, probs=probs)), torch.tensor(wanted))


def test_entropy_of_a_sure_router_has_a_finite_gradient() -> None:
    router = TopP(3, 3)
    loss = balance.entropy(router(1e4 * torch.randn(50, 3)))
    loss.backward()
    assert loss < 1e-3
    assert router.gate.weight.grad.isfinite().all()


def test_importance_cv_by_hand() -> None:
    # importances 0.7 + 0.5 + 0.6 = 1.8, 0, 0.8: mean 13/15
    mean = 2.6 / 3
    variance = ((1.8 - mean) ** 2 + mean**2 + (0.8 - mean) ** 2) / 3
    torch.testing.assert_close(balance.importance_cv(ROUTING), torch.tensor(variance / mean**2))


def test_load_cv_of_counts_by_hand() -> None:
    # loads 3, 0, 1: mean 4/3, variance 14/9
    torch.testing.assert_close(balance.load_cv(ROUTING), torch.tensor((14 / 9) / (16 / 9)))
    assert not balance.load_cv(TopK(4, 3)(torch.randn(5, 4))).requires_grad


def test_load_cv_of_a_noisy_router_is_smooth() -> None:
    router, x = TopK(4, 3, k=1, noise=1.0), torch.randn(40, 4)
    routing = router(x)
    load = routing.extras["load"].sum(0)
    wanted = load.var(correction=0) / load.mean() ** 2
    found = balance.load_cv(routing)
    torch.testing.assert_close(found, wanted)
    found.backward()
    assert router.gate.weight.grad.any()


def test_masked_tokens_have_no_share_in_a_smooth_load() -> None:
    mask = torch.rand(40) < 0.5
    routing = TopK(4, 3, k=1, noise=1.0)(torch.randn(40, 4), Context(mask=mask))
    load = routing.extras["load"][mask].sum(0)
    torch.testing.assert_close(balance.load_cv(routing), load.var(correction=0) / load.mean() ** 2)


def test_cv_terms_are_0_at_even_use() -> None:
    even = by_hand(torch.full((8, 4), 0.25), [[t % 4] for t in range(8)])
    assert balance.importance_cv(even) < 1e-9
    assert balance.load_cv(even) == 0


LOSSES = [balance.load_balance, balance.z_loss, balance.entropy, balance.importance_cv, balance.load_cv]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("router", [TopK(4, 3, noise=0.5), TopP(4, 3), AllExperts(4, 3), ExpertChoice(4, 3)])
def test_masked_tokens_have_no_share(loss: object, router: torch.nn.Module) -> None:
    x, mask = torch.randn(20, 4), torch.rand(20) < 0.5
    router.eval()
    masked, without = loss(router(x, Context(mask=mask))), loss(router(x[mask]))  # type: ignore[operator]
    torch.testing.assert_close(masked, without)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_tokens_give_a_number(loss: object) -> None:
    nobody = Context(mask=torch.zeros(5, dtype=torch.bool))
    assert loss(TopK(4, 3, noise=0.5)(torch.randn(5, 4), nobody)).isfinite()  # type: ignore[operator]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_the_mean_over_layers_and_calls(loss: object) -> None:
    net = torch.nn.Sequential(*(MoE(TopK(4, 3), experts.Copy(3)) for _ in range(2)))
    with record(net) as routings:
        net(torch.randn(20, 4))
        net[1](torch.randn(10, 4))
    calls = [routing for layer in routings.values() for routing in layer]
    assert len(calls) == 3
    wanted = sum(loss(routing) for routing in calls) / 3  # type: ignore[operator]
    for form in (routings, calls, iter(calls)):
        torch.testing.assert_close(loss(form), wanted)  # type: ignore[operator]


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_recorded_is_told(loss: object) -> None:
    for nothing in ({}, {"layer": []}, []):
        with pytest.raises(ValueError, match="no routing was recorded"):
            loss(nothing)  # type: ignore[operator]


def test_a_router_without_scores_is_told() -> None:
    x, label = torch.randn(5, 4), Context(label=torch.arange(5))
    for routing in (Hash(4, 3)(x, label), Random(4, 3)(x)):
        with pytest.raises(ValueError, match="this router has no logits"):
            balance.z_loss(routing)
        assert balance.load_balance(routing) >= 1 - 1e-6


def test_null_experts_have_no_part_in_load_balance() -> None:
    torch.manual_seed(0)
    routing = TopP(4, 3, p=0.9, nulls=2)(torch.randn(50, 4))
    real = routing.probs[:, :3].sum(0)
    fraction = routing.demand / routing.demand.sum()
    wanted = 3 * (fraction * real / real.sum()).sum()
    torch.testing.assert_close(balance.load_balance(routing), wanted)


def test_terms_read_slots_and_several_gates() -> None:
    x = torch.randn(10, 4)
    for router in (SoftSlots(4, 3, slots=2), MultiGate(4, 3, gates=2)):
        layer = MoE(router, experts.Copy(3))
        with record(layer) as routings:
            layer(x)
        assert float(balance.load_balance(routings).detach()) == pytest.approx(
            1, abs=1e-5
        )  # all run everywhere
        assert balance.entropy(routings).requires_grad
        assert balance.importance_cv(routings).requires_grad
