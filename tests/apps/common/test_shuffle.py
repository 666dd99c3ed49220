"""Exchanging routings among tokens keeps the loads and loses what the router knows."""

import torch
from collegium import Context, MoE, experts, record, routers

from apps.common.shuffle import shuffled_routing


def test_loads_stay_and_tokens_change() -> None:
    torch.manual_seed(0)
    layer = MoE(routers.TopK(6, 4), experts.MLP(6, 4, hidden=5)).eval()
    x = torch.randn(50, 6)
    with record(layer) as routings:
        before = layer(x)
        with shuffled_routing(layer):
            exchanged = layer(x)
            again = layer(x)
        after = layer(x)
    learned, one, other, _ = routings[""]
    assert torch.equal(before, after)
    assert not torch.allclose(before, exchanged)
    assert not torch.equal(one.token, other.token)
    assert torch.equal(learned.demand, one.demand)
    pairs = learned.dense_weight(), one.dense_weight()
    assert not torch.equal(*pairs)
    torch.testing.assert_close(*(table[table.sum(1).argsort()] for table in pairs))
    assert again.shape == x.shape


def test_masked_tokens_still_reach_no_expert() -> None:
    layer = MoE(routers.TopK(6, 4), experts.MLP(6, 4, hidden=5)).eval()
    mask = torch.arange(20) % 3 > 0
    with shuffled_routing(layer):
        y, routing = layer(torch.randn(20, 6), Context(mask=mask), return_routing=True)
    assert mask[routing.token].all()
    assert not y[~mask].any()


def test_a_router_without_knowledge_loses_nothing() -> None:
    layer = MoE(routers.AllExperts(6, 3), experts.Copy(3)).eval()
    x = torch.randn(9, 6)
    with shuffled_routing(layer):
        torch.testing.assert_close(layer(x), x)
