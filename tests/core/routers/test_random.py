"""Random and RandomPartition: chance in training, the mean of all experts in evaluation."""

import pytest
import torch
from collegium import Context, MoE, experts
from collegium.routers import Random, RandomPartition


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


@pytest.mark.parametrize("tokens", [0, 1, 4, 20, 23])
@pytest.mark.parametrize("masked", [False, True])
def test_parts_are_equal_but_for_one_token(tokens: int, masked: bool) -> None:
    mask = torch.rand(tokens) < 0.6 if masked else torch.ones(tokens, dtype=torch.bool)
    routing = RandomPartition(3, 5)(torch.randn(tokens, 3), Context(mask=mask) if masked else None)
    assert torch.equal(routing.experts_per_token(), mask.long())
    counts = routing.row_counts()
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == mask.sum()
    assert routing.weight.eq(1).all()


def test_a_partition_is_of_chance_alone() -> None:
    """Each token goes everywhere equally often, and any two meet as often as chance has it."""
    router, x = RandomPartition(3, 4), torch.randn(12, 3)
    expert = torch.stack([router(x).dense_weight().argmax(1) for _ in range(4000)])
    torch.testing.assert_close(
        torch.nn.functional.one_hot(expert).double().mean(0),
        torch.full((12, 4), 0.25).double(),
        atol=0.035,
        rtol=0,
    )
    together = (expert[:, :, None] == expert[:, None, :]).double().mean(0)
    apart = ~torch.eye(12, dtype=torch.bool)
    torch.testing.assert_close(together[apart], torch.full((132,), 2 / 11).double(), atol=0.03, rtol=0)


def test_partitions_are_new_each_time_and_repeat_by_seed() -> None:
    router, x = RandomPartition(3, 5), torch.randn(100, 3)
    first = router(x).dense_weight()
    assert not torch.equal(router(x).dense_weight(), first)
    torch.manual_seed(1)
    one = router(x).dense_weight()
    torch.manual_seed(1)
    assert torch.equal(router(x + 1).dense_weight(), one)  # whatever the tokens are


def test_evaluation_of_a_partition_averages_all_experts() -> None:
    block, x = experts.MLP(3, 5, hidden=4), torch.randn(7, 3)
    y = MoE(RandomPartition(3, 5), block).eval()(x)
    alone = [block(x, torch.eye(5, dtype=torch.int64)[e] * 7) for e in range(5)]
    torch.testing.assert_close(y, torch.stack(alone).mean(0))


def test_a_partition_looks_at_the_batch_and_learns_nothing() -> None:
    assert not RandomPartition(3, 5).causal
    assert not list(RandomPartition(3, 5).parameters())
