"""Drift and local consistency of known routings; what would mean nothing is left out."""

from dataclasses import replace

import pytest
import torch
from collegium import Context, MoE, Routing, experts, inspection, record, routers
from torch import Tensor

from apps.common import probe as module
from apps.common.probe import Probe, Rows, drift, locality


def rows_of(expert: Tensor, num_experts: int = 6, mask: Tensor | None = None) -> Rows:
    """Rows of sequences whose tokens choose the experts (B, L, K)."""
    B, L, K = expert.shape
    routing = Routing.from_topk(expert.view(B * L, K), torch.ones(B * L, K), num_experts, mask=mask)
    return kept(replace(routing, context=Context(shape=(B, L))))


def kept(*calls: Routing) -> Rows:
    found = Probe()
    for batch, routing in enumerate(calls):
        found.add(routing, batch)
    return found.rows()


def routed(router: routers.Router, x: Tensor) -> Routing:
    layer = MoE(router, experts.MLP(router.dim, router.num_experts, hidden=4))
    with record(layer) as routings, torch.no_grad():
        layer(x)
    ((routing,),) = routings.values()
    return routing


def test_drift_by_hand() -> None:
    before = torch.tensor([0, 1, 2, 3]).view(1, 4, 1)
    after = torch.tensor([0, 1, 2, 5]).view(1, 4, 1)
    assert drift(rows_of(before), rows_of(before)) == {"experts": 0}
    assert drift(rows_of(before), rows_of(after)) == {"experts": 0.25}


def test_drift_over_batches_is_that_of_all_tokens() -> None:
    torch.manual_seed(0)
    x, router, other = torch.randn(5, 6, 4), routers.TopK(4, 6), routers.TopK(4, 6)
    before, after = (kept(*(routed(r, part) for part in x.split(2))) for r in (router, other))
    wanted = inspection.drift(routed(router, x), routed(other, x))
    assert drift(before, after) == pytest.approx(wanted._asdict())
    assert drift(before, before) == {"experts": 0, "probs": 0}


def test_other_tokens_have_no_drift() -> None:
    expert = torch.zeros(2, 4, 1).long()
    some = rows_of(expert)
    assert drift(some, rows_of(torch.zeros(3, 4, 1).long())) == {}
    assert drift(some, rows_of(expert, num_experts=5)) == {}
    mask = torch.arange(8) > 2
    assert drift(some, rows_of(expert, mask=mask)) == {}
    assert drift(rows_of(expert, mask=mask), rows_of(expert, mask=mask)) == {"experts": 0}


def test_sequences_that_keep_their_expert_are_told_from_chance() -> None:
    found = locality(rows_of(torch.arange(60).view(60, 1, 1).expand(60, 8, 1) % 6))
    assert (found["m"], found["srp"], found["cache"], found["sch"]) == (4, 1, 2, 1)
    assert found["srp_chance"] < 0.6
    assert found["sch_chance"] < 0.8
    assert "left_out" not in found


def test_routing_that_knows_nothing_of_neighbours_is_chance() -> None:
    torch.manual_seed(0)
    found = locality(rows_of(torch.randint(6, (200, 20, 1))))
    assert found["srp"] == pytest.approx(found["srp_chance"], abs=0.01)
    assert found["sch"] == pytest.approx(found["sch_chance"], abs=0.01)


def test_locality_is_that_of_the_core() -> None:
    torch.manual_seed(1)
    routing = routed(routers.TopK(4, 6, k=2), torch.randn(7, 9, 4))
    found = locality(kept(routing))
    assert found["srp"] == pytest.approx(inspection.segment_routing_best_performance(routing, 4))
    assert (found["cache"], found["sch"]) == (
        4,
        pytest.approx(inspection.segment_cache_hit_rate(routing, 4, 4)),
    )


@pytest.mark.parametrize("router", [routers.AllExperts(4, 3), routers.SoftSlots(4, 3, slots=2)])
def test_where_every_token_runs_every_expert_only_probabilities_move(router: routers.Router) -> None:
    torch.manual_seed(0)
    before, after = (kept(routed(router, torch.randn(3, 6, 4))) for _ in range(2))
    assert locality(before) == {"left_out": "every token runs every expert"}
    moved = drift(before, after)
    assert "experts" not in moved
    assert moved["probs"] > 0


def test_short_sequences_and_single_rows_have_no_neighbours() -> None:
    reason = {"left_out": "no sequence has 4 tokens in a row"}
    assert locality(rows_of(torch.zeros(5, 3, 1).long())) == reason
    assert locality(kept(routed(routers.TopK(4, 6), torch.randn(9, 4)))) == reason
    gaps = torch.tensor([True, True, True, False, True]).repeat(2)
    assert locality(rows_of(torch.zeros(2, 5, 1).long(), mask=gaps)) == reason


def test_a_cache_of_all_experts_says_nothing() -> None:
    found = locality(rows_of(torch.zeros(5, 8, 1).long(), num_experts=2))
    assert found["srp"] == 1
    assert "sch" not in found
    assert found["left_out"].startswith("SCH:")


def test_masked_tokens_alone_give_nothing() -> None:
    nothing = rows_of(torch.zeros(2, 4, 1).long(), mask=torch.zeros(8, dtype=torch.bool))
    assert locality(nothing) == {}
    assert drift(nothing, nothing) == {}


def test_of_many_tokens_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CELLS", 60)
    assert len(rows_of(torch.zeros(9, 4, 1).long())["chosen"]) == 8  # two sequences, 48 cells of 60
    assert len(rows_of(torch.zeros(2, 50, 1).long())["chosen"]) == 10  # the beginning of one
