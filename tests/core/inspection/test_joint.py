"""The table of expert by label, by hand, with unit mass and with weights."""

import math

import pytest
import torch
from collegium import Context, MoE, Routing, experts, inspection, record
from collegium.inspection.joint import mass
from collegium.routers import AllExperts, SoftSlots, TopK

WEIGHTS = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]])


def test_every_assignment_counts_once() -> None:
    routing = Routing.from_topk(torch.tensor([[0, 1], [2, 1]]), torch.tensor([[0.9, 0.1], [0.6, 0.4]]), 3)
    table = inspection.expert_by_label(routing, torch.tensor([0, 2]))
    assert table.tolist() == [[1, 0, 0], [1, 0, 1], [0, 0, 1]]


def test_where_all_run_an_assignment_counts_by_its_weight() -> None:
    table = inspection.expert_by_label(Routing.dense(WEIGHTS), torch.tensor([0, 0, 1]), labels=3)
    assert table.tolist() == [[1.25, 0, 0], [0.75, 1, 0]]


def test_masked_tokens_count_nothing_also_where_all_run() -> None:
    mask = torch.tensor([True, False, True])
    table = inspection.expert_by_label(Routing.dense(WEIGHTS, mask=mask), torch.tensor([0, 0, 1]))
    assert table.tolist() == [[0.75, 0], [0.25, 1]]


def test_the_weights_of_several_gates_are_averaged() -> None:
    gates = torch.stack([WEIGHTS, WEIGHTS.flip(1)], -1)
    assert mass(Routing.dense(gates)).tolist() == [0.5] * 6


def test_a_dense_router_that_follows_the_label_tells_it() -> None:
    """I = log 2 - h(0.9), over H = log 2."""
    label = torch.arange(10) % 2
    weights = torch.where(label[:, None] == torch.arange(2), 0.9, 0.1)
    noise = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    found = inspection.mutual_information(Routing.dense(weights), label)
    assert found == pytest.approx(1 - noise / math.log(2), abs=1e-6)
    assert inspection.mutual_information(Routing.dense(torch.full((10, 2), 0.5)), label) == 0


@pytest.mark.parametrize("router", [AllExperts(4, 3), SoftSlots(4, 3), TopK(4, 3, k=3)])
def test_routers_that_run_all_experts_are_told_apart_by_weight(router: torch.nn.Module) -> None:
    layer = MoE(router, experts.MLP(4, 3, hidden=4))
    label = torch.arange(30) % 3
    with record(layer) as routings:
        layer(3 * torch.eye(4)[label] + 0.1 * torch.randn(30, 4))
    ((routing,),) = routings.values()
    assert inspection.mutual_information(routing, label) > 1e-4


def test_nobody_serves_nothing() -> None:
    routing = AllExperts(4, 3)(torch.randn(5, 4), Context(mask=torch.zeros(5, dtype=torch.bool)))
    assert inspection.expert_by_label(routing, torch.arange(5)).sum() == 0
    assert inspection.mutual_information(routing, torch.arange(5)) == 0


def test_a_label_beyond_the_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label holds 2, but labels=2"):
        inspection.expert_by_label(Routing.dense(WEIGHTS), torch.tensor([0, 1, 2]), labels=2)
