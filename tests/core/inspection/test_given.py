"""Every inspection says in one sentence whether it wants one routing or all that was recorded."""

from collections.abc import Callable

import pytest
import torch
from collegium import MoE, Routing, experts, inspection, record, routers

LABEL = torch.zeros(10, dtype=torch.int64)
LAYER = MoE(routers.TopK(4, 3), experts.MLP(4, 3, hidden=4))
SINGLE: dict[str, Callable[[Routing], object]] = {
    "co_selection": inspection.co_selection,
    "drift": lambda routing: inspection.drift(routing, routing),
    "entropy": inspection.entropy,
    "expert_by_label": lambda routing: inspection.expert_by_label(routing, LABEL),
    "mutual_information": lambda routing: inspection.mutual_information(routing, LABEL),
    "segment_cache_hit_rate": lambda routing: inspection.segment_cache_hit_rate(routing, 1, 2, 5),
    "segment_routing_best_performance": lambda r: inspection.segment_routing_best_performance(r, 2, 5),
    "served": inspection.served,
    "specialisation": lambda routing: inspection.specialisation(routing, LABEL),
}
ALL: dict[str, Callable[[dict[str, list[Routing]]], object]] = {
    "load": inspection.load,
    "parameters": lambda routings: inspection.parameters(LAYER, routings),
}
OTHER = {"Drift", "Specialisation", "dead_experts", "flops", "max_violation"}


def recorded() -> dict[str, list[Routing]]:
    with record(LAYER) as routings:
        LAYER(torch.randn(10, 4))
    return routings


def test_no_inspection_is_left_out() -> None:
    assert {*SINGLE, *ALL, *OTHER} == {*inspection.__all__}


@pytest.mark.parametrize("name", SINGLE)
def test_one_routing_is_wanted(name: str) -> None:
    routings = recorded()
    SINGLE[name](routings[""][0])
    for given, kind in ((routings, "dict"), (routings[""], "list")):
        words = rf"^inspection\.{name} wants one Routing, not a {kind}: give .* routings\[name\]\[0\][^\n]*$"
        with pytest.raises(TypeError, match=words):
            SINGLE[name](given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ALL)
def test_all_that_was_recorded_is_wanted(name: str) -> None:
    routings = recorded()
    ALL[name](routings)
    with pytest.raises(
        TypeError, match=rf"^inspection\.{name} wants what collegium\.record collects, not a Rou"
    ):
        ALL[name](routings[""][0])  # type: ignore[arg-type]
