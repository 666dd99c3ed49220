"""Experts that do not exist get nothing, whatever the router."""

import pytest
import torch
from collegium import routers
from collegium.testing import exported

from apps.drift.fair.linear import FEAMOE

ROUTERS = exported(routers, routers.Router)


@pytest.mark.parametrize("name", list(ROUTERS))
def test_every_router_of_the_core_leaves_room_or_is_refused_in_one_sentence(name: str) -> None:
    torch.manual_seed(0)
    model = FEAMOE(ROUTERS[name], begin=3, most=6)
    refused = refusal(model)
    if refused is not None:
        assert name in refused
        assert "\n" not in refused
        return
    x, y = torch.randn(40, 5), torch.arange(40) % 2
    found = model.learn(x, y, y)
    assert torch.equal(found.trust[:, 3:], torch.zeros(40, 3))
    torch.testing.assert_close(found.trust.sum(1), torch.ones(40))
    found.loss.backward()
    assert not model.experts.weight.grad[3:].any()
    assert model.experts.weight.grad[:3].any()


def refusal(model: FEAMOE) -> str | None:
    try:
        model.build(5, 2)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["AllExperts", "TopK", "TopP"])
def test_these_routers_fit(name: str) -> None:
    model = FEAMOE(ROUTERS[name])
    model.build(5, 2)
    assert isinstance(model.mixture.router, ROUTERS[name])
