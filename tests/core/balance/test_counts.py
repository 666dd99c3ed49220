"""Loads of the global batch."""

import pytest
import torch
from collegium import MoE, Routing, balance, experts, record
from collegium.routers import TopK
from torch import Tensor

E = 8


def domain_batch(domain: int, tokens: int = 64) -> Routing:
    """Tokens of one domain, all sure of the domain's own expert."""
    logits = torch.randn(tokens, E)
    logits[:, domain] += 8
    probs = logits.softmax(-1)
    weight, index = probs.topk(1)
    return Routing.from_topk(index, weight, E, logits=logits, probs=probs)


def test_specialised_micro_batches_are_balanced_globally() -> None:
    counts = balance.GlobalCounts()
    batches = [domain_batch(domain) for domain in range(E)]
    for routing in batches:
        counts.observe(routing)
    within = torch.stack([balance.load_balance(routing) for routing in batches])
    overall = torch.stack([balance.load_balance(routing, counts) for routing in batches])
    assert within.min() > 0.9 * E
    torch.testing.assert_close(overall.mean(), torch.tensor(1.0), atol=0.02, rtol=0)


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    router, x = TopK(4, E), torch.randn(60, 4)
    counts = balance.GlobalCounts()
    parts = [router(part) for part in x.chunk(3)]
    for routing in parts:
        counts.observe(routing)
    whole = router(x)
    assert torch.equal(counts.observed[""], whole.demand)
    terms = torch.stack([balance.load_balance(routing, counts) for routing in parts])
    torch.testing.assert_close(terms.mean(), balance.load_balance(whole))


def test_layers_and_calls_are_told_apart() -> None:
    net = torch.nn.Sequential(*(MoE(TopK(4, 3), experts.Copy(3)) for _ in range(2)))
    counts = balance.GlobalCounts()
    with record(net) as routings:
        net(torch.randn(20, 4))
        net[1](torch.randn(10, 4))
    counts.observe(routings)
    assert {name: int(demand.sum()) for name, demand in counts.observed.items()} == {"0": 40, "1": 60}
    second = sum(routing.demand for routing in routings["1"])
    assert torch.equal(counts.observed["1"], second)


def test_observing_leaves_the_routing_alone() -> None:
    routing, counts = domain_batch(0), balance.GlobalCounts()
    before = routing.demand.clone()
    counts.observe(routing)
    counts.observe(routing)
    assert torch.equal(routing.demand, before)
    assert torch.equal(counts.observed[""], 2 * before)


def test_a_step_forgets() -> None:
    counts = balance.GlobalCounts()
    counts.observe(domain_batch(0))
    counts.step()
    assert counts.observed == {}
    with pytest.raises(ValueError, match="was not observed"):
        balance.load_balance(domain_batch(0), counts)


def test_the_gradient_is_that_of_the_local_probabilities() -> None:
    router, x = TopK(4, E, k=1), torch.randn(30, 4)
    counts = balance.GlobalCounts()
    here, elsewhere = router(x), domain_batch(3, tokens=90)
    counts.observe([here, elsewhere])
    fraction = (here.demand + elsewhere.demand) / 120
    wanted = E * (fraction * here.probs.mean(0)).sum()
    found = balance.load_balance(here, counts)
    torch.testing.assert_close(found, wanted)

    def slope(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, router.gate.weight, retain_graph=True)[0]

    torch.testing.assert_close(slope(found), slope(wanted))
