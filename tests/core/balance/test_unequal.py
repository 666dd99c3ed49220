"""Cheap experts may be used more, slow ones less."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from collegium import Context, Routing, balance
from collegium.routers import FixedPlusRouted, NoisyTopK, Router, TopK
from torch import Tensor

from tests.core.balance.test_losses import PROBS, ROUTING


def test_heterogeneous_by_hand() -> None:
    # f = (3/4, 0, 1/4), P = (1.9, 0.9, 1.2) / 4, eta = (1, 1, 0.75)
    wanted = 3 * (0.75 * 1.9 + 0.75 * 0.25 * 1.2) / 4
    torch.testing.assert_close(balance.heterogeneous(ROUTING, cheap=1), torch.tensor(wanted))


def test_heterogeneous_without_cheap_experts_is_load_balance() -> None:
    wanted = balance.load_balance(ROUTING)
    torch.testing.assert_close(balance.heterogeneous(ROUTING, cheap=0), wanted)
    torch.testing.assert_close(balance.heterogeneous(ROUTING, cheap=2, tau=1.0), wanted)


def share_of_the_cheap(tau: float) -> float:
    torch.manual_seed(0)
    router, x = TopK(6, 4, k=1), torch.randn(400, 6)
    optimizer = torch.optim.Adam(router.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        balance.heterogeneous(router(x), cheap=1, tau=tau).backward()
        optimizer.step()
    demand = router(x).demand
    return float(demand[-1] / demand.sum())


def test_the_share_of_cheap_experts_rises_as_tau_falls() -> None:
    even, more, most = (share_of_the_cheap(tau) for tau in (1.0, 0.5, 0.2))
    assert even == pytest.approx(0.25, abs=0.05)
    assert most > more > even + 0.02


def test_latency_cv_is_zero_where_load_times_latency_is_even() -> None:
    latency = [6.0, 3.0, 2.0]
    index = torch.tensor([0] * 10 + [1] * 20 + [2] * 30)[:, None]
    routing = Routing.from_topk(index, torch.ones(60, 1), 3)
    assert float(balance.latency_cv(routing, latency)) == pytest.approx(0, abs=1e-6)
    assert float(balance.latency_cv(routing, [1.0, 1.0, 1.0])) > 0.1


def test_latency_cv_by_hand() -> None:
    importance = torch.tensor([0.7 + 0.5 + 0.6, 0.0, 0.8]) * torch.tensor([1.0, 2.0, 4.0])
    load = torch.tensor([3.0, 0.0, 1.0]) * torch.tensor([1.0, 2.0, 4.0])
    wanted = sum(v.var(correction=0) / v.mean().square() for v in (importance, load))
    torch.testing.assert_close(balance.latency_cv(ROUTING, [1.0, 2.0, 4.0]), wanted)


def test_under_latency_balance_the_load_goes_as_one_over_latency() -> None:
    torch.manual_seed(0)
    latency = torch.tensor([1.0, 2.0, 4.0, 4.0])
    router, x = NoisyTopK(8, 4, k=1), torch.randn(2000, 8)
    optimizer = torch.optim.Adam(router.parameters(), lr=0.02)
    for _ in range(600):
        optimizer.zero_grad()
        balance.latency_cv(router(x), latency.tolist()).backward()
        optimizer.step()
    load = sum(router(x).extras["load"].detach().sum(0) for _ in range(20))
    torch.testing.assert_close(load / load.sum(), (1 / latency) / (1 / latency).sum(), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (lambda: balance.heterogeneous(ROUTING, cheap=4), "cheap from 0 to 3"),
        (lambda: balance.heterogeneous(ROUTING, cheap=1, tau=0.0), "tau above 0"),
        (lambda: balance.latency_cv(ROUTING, [1.0, 2.0]), "3 positive latencies"),
        (lambda: balance.latency_cv(ROUTING, [1.0, 2.0, 0.0]), "3 positive latencies"),
    ],
)
def test_what_does_not_fit_is_refused(term, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        term()


LATENCY = [3.0, 5.0, 1.0, 2.0, 4.0, 8.0]
TERMS = {
    "load_balance": balance.load_balance,
    "GlobalLoadBalance": lambda routing: balance.GlobalLoadBalance()(routing),
    "importance_cv": balance.importance_cv,
    "load_cv": balance.load_cv,
    "latency_cv": lambda routing: balance.latency_cv(routing, LATENCY[-routing.num_experts :]),
    "heterogeneous": lambda routing: balance.heterogeneous(routing, cheap=1),
    "concentration": balance.concentration,
}


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
@pytest.mark.parametrize("inner", [TopK, partial(NoisyTopK, k=1)], ids=["TopK", "NoisyTopK"])
def test_experts_that_every_token_has_are_left_out(
    term: Callable[[Routing], Tensor], inner: Callable[[int, int], Router]
) -> None:
    router, x = FixedPlusRouted(6, 6, fixed=2, router=inner), torch.randn(30, 6)
    mask = Context(mask=torch.arange(30) % 4 > 0)
    torch.manual_seed(0)
    wanted = term(router.router(x, mask))
    torch.manual_seed(0)
    torch.testing.assert_close(term(router(x, mask)), wanted)


def test_masked_tokens_have_no_share() -> None:
    mask = torch.tensor([True, True, True, False])
    index = torch.tensor([[0], [0], [2], [1]])
    masked = Routing.from_topk(index, PROBS.gather(1, index), 3, mask=mask, probs=PROBS)
    alone = Routing.from_topk(index[:3], PROBS[:3].gather(1, index[:3]), 3, probs=PROBS[:3])
    for term in (lambda r: balance.heterogeneous(r, 1), lambda r: balance.latency_cv(r, [1.0, 2.0, 3.0])):
        torch.testing.assert_close(term(masked), term(alone))
