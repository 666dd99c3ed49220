"""Figures are those of the CPU where a device knows no float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from collegium import Context, MoE, Routing, balance, experts, inspection, routers
from collegium.routers import assignment

from tests.core.devices import WithoutDouble, there

LABEL = torch.arange(40) % 3


def routing(router: routers.Router) -> Routing:
    torch.manual_seed(0)
    mask = torch.arange(40).view(4, 10) % 7 > 0
    _, found = MoE(router, experts.Copy(4))(torch.randn(4, 10, 8), Context(mask=mask), return_routing=True)
    return found


@pytest.mark.parametrize("router", [routers.TopK(8, 4), routers.AllExperts(8, 4)], ids=["TopK", "AllExperts"])
@pytest.mark.parametrize(
    "figure",
    [
        lambda found: inspection.load({"": [found]}),
        lambda found: inspection.dead_experts(inspection.load({"": [found]})[""]),
        inspection.entropy,
        inspection.co_selection,
        inspection.served,
        lambda found: inspection.expert_by_label(found, LABEL),
        lambda found: inspection.specialisation(found, LABEL, draws=20),
        lambda found: inspection.drift(found, found),
        lambda found: inspection.segment_routing_best_performance(found, 2),
        lambda found: inspection.segment_cache_hit_rate(found, 2, 2),
    ],
)
def test_a_figure_is_that_of_the_cpu(figure: Callable[[Routing], Any], router: routers.Router) -> None:
    found = routing(router)
    torch.testing.assert_close(figure(there(found)), figure(found))


def test_biases_move_and_assignments_are_solved_there() -> None:
    layer = MoE(routers.TopK(8, 4, bias=True), experts.Copy(4))
    found = routing(layer.router)
    balancing = balance.BiasBalance(layer, rate=0.1)
    balancing.observe(there(found))
    balancing.step()
    wanted = 0.1 * torch.sign(found.demand.double().mean() - found.demand).float()
    torch.testing.assert_close(layer.router.bias, wanted)
    score = torch.randn(8, 4)
    owner = assignment._assign._init_fn(score.as_subclass(WithoutDouble), 1e-3)
    assert torch.equal(owner.as_subclass(torch.Tensor), assignment.balanced_assignment(score))
