"""Exchanging routings among tokens keeps the loads and loses what the router knows."""

import torch
from collegium import Context, MoE, experts, record, routers
from collegium.evidence import Evidence, ReliabilityMixture

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


def test_weights_by_reliability_are_exchanged_as_well() -> None:
    torch.manual_seed(0)
    mixture = ReliabilityMixture(dim=3, signal=2, outputs=1)
    said, correction, embedding = torch.randn(6, 4, 1), torch.randn(6, 4, 1), torch.randn(6, 4, 3)
    arguments = said, correction, Evidence(torch.rand(6, 4, 1, 5)), embedding, torch.randn(6, 2)
    usual, weight = mixture(*arguments)
    with shuffled_routing(mixture):
        changed, exchanged = mixture(*arguments)
    order = (exchanged[:, None] == weight[None]).all(-1).all(-1).float().argmax(1)
    assert sorted(order.tolist()) == list(range(6)) != order.tolist()
    torch.testing.assert_close(changed, (weight[order] * (said + correction)).sum(1))
    torch.testing.assert_close(mixture(*arguments)[0], usual)
