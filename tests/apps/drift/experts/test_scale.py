"""The running scale."""

import torch

from apps.drift.experts.scale import RunningScale


def test_within_its_memory_it_is_the_mean_and_the_deviation() -> None:
    x = torch.randn(90, 3) * torch.tensor([1.0, 100.0, 0.01]) + torch.tensor([0.0, 1e4, 5.0])
    scale = RunningScale(3, memory=10_000)
    for part in x.split(13):
        scale.update(part)
    torch.testing.assert_close(scale.mean, x.double().mean(0))
    torch.testing.assert_close(scale.variance, x.double().var(0, unbiased=False))
    z = scale(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-3, rtol=0)


def test_it_forgets() -> None:
    scale = RunningScale(1, memory=50)
    scale.update(torch.zeros(500, 1))
    for _ in range(100):
        scale.update(torch.full((10, 1), 7.0) + torch.randn(10, 1) * 0.1)
    assert abs(float(scale.mean) - 7) < 0.1
    assert float(scale.variance) < 0.1


def test_a_constant_feature_is_zero_and_far_values_are_cut() -> None:
    scale = RunningScale(2, limit=4.0)
    scale.update(torch.tensor([[3.0, 0.0], [3.0, 1.0]]))
    z = scale(torch.tensor([[3.0, 1000.0], [9.0, 0.5]]))
    assert z.tolist() == [[0.0, 4.0], [0.0, 0.0]]


def test_the_first_rows_of_all_are_told_by_their_own_scale() -> None:
    x = torch.tensor([[1000.0], [1002.0]])
    assert RunningScale(1)(x).flatten().tolist() == [-1.0, 1.0]
