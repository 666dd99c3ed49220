"""The forecaster: causality, scheduling, missing values, invariances."""

import pytest
import torch
from collegium import routers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from apps.common.controls import DenseFFN, MixtureFFN
from apps.timeseries.model import window_scale
from apps.timeseries.networks.time_moe import Embedding, TimeMoE
from apps.timeseries.networks.tokens import greedy_schedule


def small(patch: int = 4, horizons: tuple[int, ...] = (4, 12), **options: object) -> TimeMoE:
    torch.manual_seed(0)
    return TimeMoE(dim=16, depth=2, heads=2, patch=patch, horizons=horizons, **options).eval()


def windows(length: int = 24, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    values = torch.randn(batch, length)
    return values, torch.ones_like(values, dtype=torch.bool)


@given(st.integers(1, 3000), st.sets(st.integers(2, 200), max_size=4))
def test_greedy_schedule_adds_up_to_the_horizon(horizon: int, heads: set[int]) -> None:
    steps = greedy_schedule(horizon, [1, *heads])
    assert sum(used for _, used in steps) == horizon
    assert all(size == used for size, used in steps)
    assert [size for size, _ in steps] == sorted((size for size, _ in steps), reverse=True)


def test_greedy_schedule_cuts_the_smallest_head_where_none_fits() -> None:
    assert greedy_schedule(30, [8, 16]) == [(16, 16), (8, 8), (8, 6)]
    with pytest.raises(ValueError, match="at least 1"):
        greedy_schedule(0, [1])


@pytest.mark.parametrize("patch", [1, 4])
def test_a_token_does_not_see_what_follows_it(patch: int) -> None:
    net, (values, observed) = small(patch), windows()
    changed = values.clone()
    changed[:, 12:] += 5.0
    for before, after in zip(net(values, observed), net(changed, observed), strict=True):
        seen = 12 // patch
        torch.testing.assert_close(before[:, :seen], after[:, :seen])
        assert (before[:, seen:] - after[:, seen:]).abs().max() > 1e-3


def test_the_last_token_alone_forecasts_as_among_all() -> None:
    net, (values, observed) = small(), windows()
    for every, last in zip(net(values, observed), net(values, observed, last=True), strict=True):
        torch.testing.assert_close(every[:, -1:], last)


def test_forecast_follows_shift_and_scale_of_the_window() -> None:
    net, (values, observed) = small(), windows()
    plain = net.forecast(values, observed, 20)
    moved = net.forecast(values * 7.0 - 3.0, observed, 20)
    assert plain.shape == (3, 20)
    torch.testing.assert_close(moved, plain * 7.0 - 3.0, rtol=1e-4, atol=1e-4)


def test_a_long_forecast_feeds_its_own_steps_back() -> None:
    net, (values, observed) = small(), windows()
    first = net.forecast(values, observed, 12)
    mean, scale = window_scale(values, observed)
    fed = torch.cat([(values - mean) / scale, (first - mean) / scale], 1)[:, -24:]
    second = net(fed, torch.ones_like(fed, dtype=torch.bool), last=True)[0][:, 0] * scale + mean
    torch.testing.assert_close(net.forecast(values, observed, 16)[:, 12:], second)


def test_what_stands_at_missing_points_does_not_matter() -> None:
    net, (values, observed) = small(), windows()
    observed[:, 5:9] = False
    noise = values.masked_fill(~observed, 1e4)
    torch.testing.assert_close(net.forecast(values, observed, 12), net.forecast(noise, observed, 12))


def test_padding_on_the_left_changes_nothing() -> None:
    """Whole tokens of missing points are not attended to; rotary attention knows distances alone."""
    net, (values, observed) = small(), windows()
    padded = torch.cat([torch.zeros(3, 8), values], 1)
    mask = torch.cat([torch.zeros(3, 8, dtype=torch.bool), observed], 1)
    torch.testing.assert_close(
        net.forecast(padded, mask, 4), net.forecast(values, observed, 4), rtol=1e-4, atol=1e-5
    )


def test_a_context_need_not_be_whole_patches_long() -> None:
    net, (values, observed) = small(), windows(length=22)
    assert net(values, observed)[0].shape == (3, 6, 4)
    assert net.forecast(values, observed, 12).isfinite().all()


def test_a_window_without_any_value_gives_a_finite_forecast() -> None:
    net, (values, observed) = small(), windows()
    observed[0] = False
    assert net.forecast(values, observed, 12).isfinite().all()


def test_window_scale_by_hand() -> None:
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 5.0, 5.0], [9.0, 9.0, 9.0]])
    observed = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    mean, scale = window_scale(values, observed)
    assert mean.flatten().tolist() == [2.0, 5.0, 0.0]
    assert scale.flatten().tolist() == [1.0, 1.0, 1.0]


def test_embedding_is_the_papers_where_nothing_is_missing() -> None:
    torch.manual_seed(0)
    embed, x = Embedding(1, 8), torch.randn(2, 5, 1)
    expected = nn.functional.silu(x @ embed.gate.weight.T) * (x @ embed.value.weight.T)
    torch.testing.assert_close(embed(x, torch.ones_like(x, dtype=torch.bool)), expected)


def test_an_untrained_gap_is_no_noise() -> None:
    embed, x = Embedding(4, 8), torch.randn(2, 5, 4)
    x[0, 0, 1] = 0.0
    gap = torch.ones_like(x, dtype=torch.bool)
    gap[0, 0, 1] = False
    torch.testing.assert_close(embed(x, gap), embed(x, torch.ones_like(gap)))


def test_routers_that_look_ahead_are_refused() -> None:
    with pytest.raises(ValueError, match="ExpertChoice is not causal"):
        small(feed_forward=lambda dim: MixtureFFN(dim, router=routers.ExpertChoice))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of patch=4"):
        small(horizons=(6,))
    with pytest.raises(ValueError, match="multiple of twice heads"):
        TimeMoE(dim=12, heads=8)


def test_every_parameter_learns() -> None:
    net, (values, observed) = small().train(), windows()
    observed[:, :4], observed[:, 6] = False, False
    sum(f.square().sum() for f in net(values, observed)).backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if "experts" not in name] == []


def test_the_dense_control_takes_the_same_place() -> None:
    net, (values, observed) = small(feed_forward=lambda dim: DenseFFN(dim, hidden=32)), windows()
    assert net.forecast(values, observed, 12).shape == (3, 12)
