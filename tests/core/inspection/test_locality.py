"""SRP and SCH against a plain loop, by hand, and at their limits."""

from itertools import combinations

import pytest
import torch
from collegium import Context, MoE, Routing, experts, inspection, record
from collegium.routers import TopK

srp, sch = inspection.segment_routing_best_performance, inspection.segment_cache_hit_rate


def random_routing(tokens: int, num_experts: int, k: int, mask: torch.Tensor | None = None) -> Routing:
    index = torch.rand(tokens, num_experts).topk(k).indices
    return Routing.from_topk(index, torch.ones(tokens, k), num_experts, mask=mask)


def segments(routing: Routing, m: int, length: int) -> list[torch.Tensor]:
    """Every (m, E) table of m neighbours that are all unmasked."""
    chosen = routing.selected().view(-1, length, routing.num_experts)
    real = torch.ones(chosen.shape[:2], dtype=torch.bool)
    real = real if routing.mask is None else routing.mask.view(-1, length)
    starts = range(length - m + 1)
    return [c[i : i + m] for c, r in zip(chosen, real, strict=True) for i in starts if r[i : i + m].all()]


def srp_by_loop(routing: Routing, m: int, length: int) -> float:
    best = 0.0
    for theta in range(m + 1):
        hit = on = acted = 0
        for table in segments(routing, m, length):
            for expert in table.T:
                said = int(expert.sum()) >= theta
                hit += int((expert & said).sum())
                on += m * said
                acted += int(expert.sum())
        best = max(best, 2 * hit / max(on + acted, 1))
    return best


def sch_by_loop(routing: Routing, cache: int, m: int, length: int) -> float:
    """The best of all caches, tried one by one."""
    hits = total = 0
    for table in segments(routing, m, length):
        used = table.sum(0)
        hits += max(int(used[list(held)].sum()) for held in combinations(range(routing.num_experts), cache))
        total += int(used.sum())
    return hits / total


@pytest.mark.parametrize("m", [1, 2, 3, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_both_equal_a_plain_loop(m: int, masked: bool) -> None:
    torch.manual_seed(m)
    mask = (torch.arange(24) % 12 < 9) if masked else None
    routing = random_routing(24, 5, 2, mask)
    assert srp(routing, m, length=12) == pytest.approx(srp_by_loop(routing, m, 12))
    for cache in range(1, 6):
        assert sch(routing, cache, m, length=12) == pytest.approx(sch_by_loop(routing, cache, m, 12))


def test_by_hand() -> None:
    """Experts 0 0 1 | 0 1 1 | 1 1 0, each token with one: on for a majority hits 2 of 3."""
    routing = Routing.from_topk(torch.tensor([[0], [0], [1], [1], [0]]), torch.ones(5, 1), 2)
    assert srp(routing, 3, length=5) == pytest.approx(2 / 3)
    assert sch(routing, 1, 3, length=5) == pytest.approx(2 / 3)
    assert sch(routing, 2, 3, length=5) == 1


def test_routing_that_stays_within_a_sequence_is_consistent() -> None:
    index = torch.tensor([[0, 1], [2, 5], [3, 0]]).repeat_interleave(8, 0)
    routing = Routing.from_topk(index, torch.ones(24, 2), 6)
    for m in (2, 8):
        assert srp(routing, m, length=8) == 1
        assert sch(routing, 2, m, length=8) == 1
        assert sch(routing, 1, m, length=8) == 0.5


def test_independent_uniform_routing_tends_to_its_limit() -> None:
    """2r / (1 + r), reached by the threshold that lets every expert be on."""
    torch.manual_seed(0)
    routing = random_routing(2**15, 8, 2)
    found = [srp(routing, m, length=2**15) for m in (1, 2, 8, 64, 1024)]
    assert found[0] == 1
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(2 * 0.25 / 1.25, abs=0.02)


def test_the_hit_rate_grows_with_the_cache_to_1() -> None:
    torch.manual_seed(0)
    rates = [sch(random_routing(64, 8, 2), cache, 8, length=16) for cache in range(1, 9)]
    assert rates == sorted(rates)
    assert rates[-1] == 1


def test_sequences_are_those_of_the_context() -> None:
    layer = MoE(TopK(4, 6, k=2), experts.MLP(4, 6, hidden=4))
    segment = torch.tensor([0, 1] * 12)
    with record(layer) as routings:
        layer(torch.randn(2, 12, 4))
        layer(torch.randn(24, 4), Context(segment=segment))
    shaped, named = routings[""]
    assert srp(shaped, 4) == srp(shaped, 4, length=12)
    first, second = named.selected()[segment == 0], named.selected()[segment == 1]
    apart = Routing.from_selection(torch.cat([first, second]), torch.ones(24, 6))
    assert srp(named, 4) == srp(apart, 4, length=12)
    assert sch(named, 3, 4) == sch(apart, 3, 4, length=12)


@pytest.mark.parametrize(
    ("m", "length", "sentence"),
    [
        (2, None, "give length=: nothing tells how the tokens"),
        (2, 5, "length=5 does not divide 12 tokens"),
        (7, 6, "m=7 must be between 1 and 6"),
        (0, 6, "m=0 must be between 1 and 6"),
        (6, 6, "no 6 neighbours are all unmasked"),
    ],
)
def test_what_cannot_be_cut_into_segments_is_refused(m: int, length: int | None, sentence: str) -> None:
    routing = random_routing(12, 4, 2, mask=torch.arange(12) % 6 != 2)
    with pytest.raises(ValueError, match=sentence):
        srp(routing, m, length)


def test_a_cache_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="cache=5 must be between 1 and 4"):
        sch(random_routing(12, 4, 2), 5, 2, length=6)
