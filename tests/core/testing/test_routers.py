"""check_router catches what is broken, and says so."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from collegium import Context, Routing
from collegium.routers import Router, TopK
from collegium.routing import count
from collegium.testing import check_router
from torch import Tensor, nn


class Softmax(Router):
    """A sound router for the broken ones below to differ from in one thing."""

    def __init__(self, dim: int, num_experts: int, k: int = 2) -> None:
        super().__init__(dim, num_experts)
        self.k = k
        self.linear = nn.Linear(dim, num_experts)

    def logits(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def weights(self, probs: Tensor, index: Tensor) -> Tensor:
        return probs.gather(1, index)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        logits = self.logits(x)
        probs = logits.softmax(-1)
        index = probs.topk(self.k).indices
        weight, mask = self.weights(probs, index), self.mask(context)
        return Routing.from_topk(index, weight, self.num_experts, mask=mask, logits=logits, probs=probs)

    def mask(self, context: Context) -> Tensor | None:
        return context.mask


class Unmasked(Softmax):
    def mask(self, context: Context) -> Tensor | None:
        return None


class Detached(Softmax):
    def weights(self, probs: Tensor, index: Tensor) -> Tensor:
        return super().weights(probs, index).detach()


class SoftmaxAfterTheCut(Softmax):
    def weights(self, probs: Tensor, index: Tensor) -> Tensor:
        return super().weights(probs, index).log().softmax(-1)


class Restless(Softmax):
    def logits(self, x: Tensor) -> Tensor:
        return super().logits(x) + torch.randn(len(x), self.num_experts)


class Sociable(Softmax):
    def logits(self, x: Tensor) -> Tensor:
        return super().logits(x - x.mean(0)) if len(x) else super().logits(x)


class Modest(Softmax):
    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(dim, num_experts)
        self.causal = False


class Hoarder(Softmax):
    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        self.last = super().route(x, context, previous)
        return self.last


class Forgetful(Softmax):
    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(dim, num_experts)
        self.scale = torch.randn(num_experts)  # a buffer that no state dict knows

    def logits(self, x: Tensor) -> Tensor:
        return super().logits(x) * self.scale


class Careless(Softmax):
    needs = ("label",)

    def forward(self, x: Tensor, context: Context | None = None, previous: Routing | None = None) -> Routing:
        return super().forward(x, replace(context or Context(), label=torch.zeros(len(x))), previous)


class Greedy(Softmax):
    def __init__(self, dim: int, num_experts: int) -> None:
        nn.Module.__init__(self)
        self.dim, self.num_experts, self.causal, self.k = dim, num_experts, True, 2
        self.linear = nn.Linear(max(dim, 1), max(num_experts, 1))


class Silent(Softmax):
    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        super().route(x, context, previous)
        return None  # type: ignore[return-value]


class Unsorted(Router):
    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        token = torch.arange(len(x))
        expert = token % self.num_experts
        rows = count(expert, self.num_experts)
        return Routing(token, expert, torch.ones(len(x)), rows, rows, len(x), self.num_experts)


BROKEN: dict[str, tuple[Callable[[int, int], Router], str]] = {
    "Unmasked": (Unmasked, "the routing must carry context.mask"),
    "Detached": (Detached, "linear.weight must get gradient"),
    "SoftmaxAfterTheCut": (SoftmaxAfterTheCut, "linear.weight must get gradient through the weights at k=1"),
    "Restless": (Restless, "two calls must route alike"),
    "Sociable": (Sociable, "causal is True, but"),
    "Modest": (Modest, "causal is False, but"),
    "Forgetful": (Forgetful, "the router that the state dict brings back"),
    "Careless": (Careless, r"without context\.label"),
    "Greedy": (Greedy, r"dim, num_experts = \(0, 4\) must be refused"),
    "Silent": (Silent, "^Silent, routing is whole: Silent.route must return a Routing"),
    "Unsorted": (Unsorted, "expert must ascend"),
}


def test_a_sound_router_passes() -> None:
    check_router(Softmax)
    check_router(Softmax, dim=3, num_experts=7, tokens=11)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_router_is_caught(name: str) -> None:
    factory, words = BROKEN[name]
    with pytest.raises(AssertionError, match=words):
        check_router(factory)


def test_a_router_that_keeps_its_routing_is_caught() -> None:
    with pytest.raises(AssertionError, match="keep no routing"):
        check_router(Hoarder)


def test_the_message_names_router_and_check() -> None:
    with pytest.raises(AssertionError, match=r"^Restless, evaluation repeats itself: two calls"):
        check_router(Restless)


def test_a_leak_that_no_random_input_shows_may_be_vouched_for() -> None:
    check_router(Modest, shows_leak=False)


def test_the_callers_random_numbers_are_left_alone() -> None:
    state = torch.get_rng_state()
    check_router(TopK)
    assert torch.equal(torch.get_rng_state(), state)
