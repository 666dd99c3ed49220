"""Random: uniform draws in training, the mean of all experts in evaluation."""

import torch
from collegium import MoE, experts
from collegium.routers import Random


def test_training_draws_k_distinct_experts_uniformly() -> None:
    routing = Random(3, 5, k=2)(torch.randn(20_000, 3))
    assert (routing.experts_per_token() == 2).all()
    assert (routing.dense_weight() > 0).sum(1).eq(2).all()
    assert routing.weight.eq(0.5).all()
    torch.testing.assert_close(routing.demand / 20_000, torch.full((5,), 0.4), atol=0.015, rtol=0)


def test_draws_are_new_each_time_and_repeat_by_seed() -> None:
    router, x = Random(3, 5), torch.randn(100, 3)
    first = router(x).dense_weight()
    assert not torch.equal(router(x).dense_weight(), first)
    torch.manual_seed(1)
    one = router(x).dense_weight()
    torch.manual_seed(1)
    assert torch.equal(router(x).dense_weight(), one)


def test_evaluation_averages_all_experts() -> None:
    block, x = experts.MLP(3, 5, hidden=4), torch.randn(7, 3)
    y = MoE(Random(3, 5), block).eval()(x)
    alone = [block(x, torch.eye(5, dtype=torch.int64)[e] * 7) for e in range(5)]
    torch.testing.assert_close(y, torch.stack(alone).mean(0))


def test_nothing_is_learned() -> None:
    assert not list(Random(3, 5).parameters())
