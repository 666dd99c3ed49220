"""The term that counts for itself equals counting by hand, and leaves domain-pure micro-batches alone."""

import torch
from collegium import MoE, balance, experts, record
from collegium.routers import TopK


def test_it_equals_load_balance_with_counts() -> None:
    torch.manual_seed(0)
    layer, term, counts = (
        MoE(TopK(4, 4, k=1), experts.Copy(4)),
        balance.GlobalLoadBalance(),
        balance.GlobalCounts(),
    )
    for _ in range(2):
        for micro_batch in torch.randn(3, 10, 4):
            with record(layer) as routings:
                layer(micro_batch)
            counts.observe(routings)
            torch.testing.assert_close(term(routings), balance.load_balance(routings, counts))
        term.step()
        counts.step()


def test_a_micro_batch_of_one_domain_may_use_that_domains_experts() -> None:
    router = TopK(4, 4, k=1)
    torch.nn.init.eye_(router.gate.weight)
    layer, term = MoE(router, experts.Copy(4)), balance.GlobalLoadBalance()
    micro, whole = [], []
    for domain in (0, 1, 2, 3):
        with record(layer) as routings:
            layer(20 * torch.eye(4)[[domain] * 8])
        micro.append(float(balance.load_balance(routings).detach()))
        whole.append(float(term(routings).detach()))
    assert min(micro) > 3.9
    assert abs(whole[-1] - 1) < 0.05
