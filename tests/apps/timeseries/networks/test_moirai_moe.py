"""Moirai-MoE: who sees what, groups, sampling, training."""

import pandas as pd
import pytest
import torch
from collegium import record, routers

from apps.common.controls import Control, DenseFFN, MixtureFFN
from apps.timeseries.model import window_scale
from apps.timeseries.networks import MixtureHead, MoiraiMoE, QuantileHead, TimeMoE
from apps.timeseries.scaler import Scaler
from apps.timeseries.tables import Table
from apps.timeseries.windows import Windows, as_line
from tests.apps.timeseries.networks.moirai import (
    HEADS,
    LEVELS,
    PAIRS,
    batch_of,
    direct,
    nearest,
    out,
    series,
    small,
    windows,
)


@pytest.mark.parametrize("group", [None, PAIRS])
def test_a_token_does_not_see_what_follows_it(group: torch.Tensor | None):
    net, (values, observed) = small(), windows()
    changed = values.clone()
    changed[:, 12:] += 5.0
    before, after = out(net, values, observed, group), out(net, changed, observed, group)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amax((0, 2, 3)).min() > 1e-3


def test_windows_of_a_group_see_one_another_and_no_others():
    net, (values, observed) = small(), windows()
    changed = values.clone()
    changed[1] += torch.randn(24)
    before, after = out(net, values, observed, PAIRS), out(net, changed, observed, PAIRS)
    moved = (before - after).abs().flatten(1).amax(1)
    assert moved[:2].min() > 1e-3
    assert moved[2:].max() < 1e-5
    alone = (out(net, values, observed) - out(net, changed, observed)).abs().flatten(1).amax(1)
    assert alone[1] > 1e-3
    assert alone[[0, 2, 3]].max() < 1e-5


def test_the_present_of_a_neighbour_is_seen_and_its_future_is_not():
    net, (values, observed) = small(), windows()
    changed = values.clone()
    changed[1, 12:] += 5.0
    moved = (out(net, values, observed, PAIRS) - out(net, changed, observed, PAIRS)).abs()[0].amax((1, 2))
    assert moved[:3].max() < 1e-5
    assert moved[3] > 1e-3


def test_the_order_of_the_series_does_not_matter():
    net, (values, observed) = small(), windows()
    observed[0, :9] = False
    group, order = torch.tensor([1, 1, 1, 7]), torch.tensor([2, 3, 0, 1])
    expected = out(net, values, observed, group)[order]
    torch.testing.assert_close(out(net, values[order], observed[order], group[order]), expected)


def test_groups_of_different_sizes_are_each_as_by_themselves():
    net, (values, observed) = small(), windows()
    group = torch.tensor([3, 1, 3, 3])
    found = out(net, values, observed, group)
    for number in (1, 3):
        own = group == number
        torch.testing.assert_close(found[own], out(net, values[own], observed[own], group[own]))


def test_own_and_other_series_are_told_apart_by_the_biases_alone():
    """With equal biases a series cannot know which of two tokens of one time is its own."""
    net = small()
    values, observed = windows(4, 2)  # a single token a series
    group = torch.zeros(2, dtype=torch.long)

    def mixed(same: float, other: float) -> torch.Tensor:
        attention = net.layers[0].attention
        attention.same_other.data = torch.tensor([[same] * 2, [other] * 2])
        handle = attention.out.register_forward_hook(lambda module, args, out: seen.append(out))
        seen: list[torch.Tensor] = []
        attention.query_norm.weight.data.zero_()  # no content: all tokens score alike
        out(net, values, observed, group)
        handle.remove()
        return seen[0][:, 0]

    even, own = mixed(0.5, 0.5), mixed(50.0, 0.0)
    torch.testing.assert_close(even[0], even[1])
    torch.testing.assert_close(own.mean(0), even[0], rtol=1e-4, atol=1e-5)
    assert (own[0] - own[1]).abs().max() > 1e-2


@HEADS
def test_what_stands_at_missing_points_does_not_matter(head):
    net, (values, observed) = small(head), windows()
    observed[:, 5:9], observed[2] = False, False
    noise = values.masked_fill(~observed, 1e4)
    for group in (None, PAIRS):
        forecast = net.forecast(values, observed, 12, group)
        assert forecast.isfinite().all()
        torch.testing.assert_close(net.forecast(noise, observed, 12, group), forecast)


def test_wholly_missing_tokens_reach_no_expert_and_are_seen_by_nobody():
    net, (values, observed) = small(), windows()
    padded = torch.cat([torch.full((4, 8), 7.0), values], 1)
    mask = torch.cat([torch.zeros(4, 8, dtype=torch.bool), observed], 1)
    torch.testing.assert_close(
        out(net, padded, mask, PAIRS)[:, 2:],
        out(net, values, observed, PAIRS),
        rtol=1e-4,
        atol=1e-4,
    )
    with record(net) as routings:
        out(net, padded, mask)
    assert all(int(calls[0].counts.sum()) == 2 * 4 * 6 for calls in routings.values())


@HEADS
def test_a_missing_neighbour_is_as_none(head):
    net, (values, observed) = small(head), windows()
    observed[1] = False
    alone = torch.tensor([0, 1, 2, 3])
    with_it, without = (net.forecast(values, observed, 12, group) for group in (PAIRS, alone))
    torch.testing.assert_close(with_it[0], without[0], rtol=1e-4, atol=1e-4)


@HEADS
def test_forecast_follows_shift_and_scale_of_the_window(head):
    net, (values, observed) = small(head), windows()
    plain, moved = net.forecast(values, observed, 18), net.forecast(values * 7.0 - 3.0, observed, 18)
    assert plain.shape == (4, 18)
    torch.testing.assert_close(moved, plain * 7.0 - 3.0, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("group", [None, PAIRS])
def test_tokens_that_follow_a_memory_are_as_those_of_the_whole(group: torch.Tensor | None):
    net, (values, observed) = small(), windows()
    observed[1, :4], observed[3, 12:16] = False, False
    whole, kept = net(values, observed, group)
    first, memory = net(values[:, :12], observed[:, :12], group)
    second, memory = net(values[:, 12:], observed[:, 12:], group, memory)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(memory.real, kept.real)


def test_each_path_goes_on_from_its_own_samples():
    """The second token of a path is drawn from what the network says after the first one."""
    net, (values, observed) = small(), windows(batch=1)
    mean, scale = window_scale(values, observed)
    values = (values - mean) / scale
    cloud = net._cloud(values, observed, 8, None)
    noise = net.head.noise(1, 2)[:, :, 1]
    for path in (0, 7):
        longer = torch.cat([values, cloud[:, path, :4]], 1)
        parameters = out(net, longer, torch.ones_like(longer, dtype=torch.bool))[:, -1:]
        expected = net.head.draw(parameters, noise[:, path : path + 1])[0][:, 0]
        torch.testing.assert_close(cloud[:, path, 4:], expected, rtol=1e-3, atol=1e-3)


def test_quantiles_go_on_along_the_median():
    net, (values, observed) = small(direct), windows(batch=1)
    mean, scale = window_scale(values, observed)
    values = (values - mean) / scale
    first = net.quantiles(values, observed, 8, LEVELS)
    longer = torch.cat([values, first[:, :, 1]], 1)
    expected = out(net, longer, torch.ones_like(longer, dtype=torch.bool))[:, -1].sort(-1).values
    both = net.quantiles(values, observed, 16, LEVELS)
    torch.testing.assert_close(both[:, :8], first)
    torch.testing.assert_close(both[:, 8:], expected, rtol=1e-3, atol=1e-3)


@HEADS
def test_quantiles_ascend(head):
    net, (values, observed) = small(head), windows()
    found = net.quantiles(values, observed, 18, torch.tensor([0.05, 0.2, 0.5, 0.51, 0.95]), PAIRS)
    assert found.shape == (4, 18, 5)
    assert (found.diff(dim=-1) >= 0).all()
    assert (found[..., -1] > found[..., 0]).all()


def test_the_point_forecast_may_be_the_median():
    values, observed = windows()
    net = small(lambda dim, patch: MixtureHead(dim, patch, samples=12, point="median"))
    median = net.quantiles(values, observed, 10, torch.tensor([0.5]))[..., 0]
    torch.testing.assert_close(net.forecast(values, observed, 10), median)


@HEADS
def test_evaluation_is_deterministic_and_leaves_the_global_generator_alone(head):
    net, (values, observed) = small(head), windows()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = net.forecast(values, observed, 12, PAIRS)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(4)
    assert torch.equal(first, net.forecast(values, observed, 12, PAIRS))


def test_a_forecast_depends_on_no_window_outside_its_group_and_on_no_further_step(monkeypatch):
    net, (values, observed) = small(), windows()
    group = torch.tensor([3, 1, 3, 3])
    whole = net.forecast(values, observed, 12, group)
    for number in (1, 3):
        own = group == number
        torch.testing.assert_close(net.forecast(values[own], observed[own], 12, group[own]), whole[own])
    torch.testing.assert_close(net.forecast(values, observed, 5, group), whole[:, :5])
    monkeypatch.setattr("apps.timeseries.networks.moirai_moe.ROWS", 8)  # in parts of two paths
    torch.testing.assert_close(net.forecast(values, observed, 12, group), whole)


def test_a_batch_is_forecast_with_its_groups():
    net, batch = small(), batch_of()
    batch["group"] = PAIRS
    context = batch["context"], batch["context_mask"]
    assert torch.equal(net.forecast_batch(batch, 8), net.forecast(*context, 8, PAIRS))
    assert torch.equal(net.quantiles_batch(batch, 8, LEVELS), net.quantiles(*context, 8, LEVELS, PAIRS))
    assert not torch.equal(net.forecast_batch(batch, 8), net.forecast(*context, 8))


def test_the_loss_is_the_mean_likelihood_of_what_follows_the_prefix(monkeypatch):
    """By hand: a prefix of four tokens of six, then the rest of the context and ten points of target."""
    monkeypatch.setattr(torch, "randint", lambda *args: torch.tensor(4))
    net, batch = small(), batch_of()
    batch["context_mask"][0, 18], batch["target_mask"][1, 3] = False, False
    loss, (centres_of_tokens,) = net.loss(batch)
    mean, scale = window_scale(batch["context"][:, :16], batch["context_mask"][:, :16])
    values = (torch.cat([batch["context"], batch["target"]], 1) - mean) / scale
    observed = torch.cat([batch["context_mask"], batch["target_mask"]], 1)
    parameters = out(net, values[:, :32], observed[:, :32])[:, 3:].flatten(1, 2)[:, :18]
    expected = net.head.loss(parameters, values[:, 16:], observed[:, 16:])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        centres_of_tokens.flatten(1)[:, :18], net.head.centre(parameters), rtol=1e-4, atol=1e-5
    )


def test_targets_of_several_patches_are_those_that_follow(monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda *args: torch.tensor(4))
    net, batch = small(direct), batch_of(22, 10)  # filled up by two points on either side
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    monkeypatch.setattr(net.head, "loss", lambda p, target, mask: seen.append((target, mask)) or target.sum())
    net.loss(batch)
    ((target, mask),) = seen
    mean, scale = window_scale(batch["context"][:, :14], batch["context_mask"][:, :14])
    values = (torch.cat([batch["context"], batch["target"]], 1) - mean) / scale
    assert target.shape == mask.shape == (4, 5, 8)
    for token in range(5):
        first = 14 + 4 * token
        real = min(8, 32 - first)
        assert mask[:, token, :real].all()
        assert not mask[:, token, real:].any()
        torch.testing.assert_close(target[:, token, :real], values[:, first : first + real])


@HEADS
def test_no_target_has_a_share_in_the_scale_and_missing_ones_none_in_the_loss(head):
    net, batch = small(head), batch_of()
    batch["target_mask"][:, 2:5] = False

    def loss() -> torch.Tensor:
        torch.manual_seed(5)
        return net.loss(batch)[0]

    before = loss()
    batch["target"][:, 2:5] = 1e5
    torch.testing.assert_close(loss(), before)
    batch["target_mask"][:] = False
    batch["context_mask"][:, 12:] = False
    assert float(loss().detach()) == 0.0


@HEADS
def test_every_parameter_learns(head):
    net, batch = small(head).train(), batch_of(batch=8)
    batch["group"] = torch.arange(8) // 2
    batch["context_mask"][:, 6] = False
    net.loss(batch)[0].backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if "experts" not in name] == []


@HEADS
def test_training_lowers_the_loss(head):
    net, data = small(head).train(), series()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss, _ = net.loss(data.__getitems__(torch.arange(step % 10 * 40, step % 10 * 40 + 40)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_a_group_helps_where_one_series_leads_the_other():
    """The second series repeats the first a token later: only together can it be forecast."""
    lead = torch.randn(404, generator=torch.Generator().manual_seed(0)).numpy()
    table = Table(
        pd.DataFrame({"lead": lead[4:], "late": lead[:-4]}).to_numpy(),
        pd.RangeIndex(400),
        ("lead", "late"),
        None,
    )
    scaler = Scaler.fit([table], [(0, 400)])
    errors = {}
    for tables in ([0, 0], None):
        data = Windows(as_line([table], scaler), [(0, 400)] * 2, 16, 4, tables=tables)
        net = small(direct, lambda dim: DenseFFN(dim)).train()
        optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
        for step in range(150):
            torch.manual_seed(step)
            first = int(torch.randint(len(data) // 2 - 32, ())) * 2
            optimiser.zero_grad()
            net.loss(data.__getitems__(range(first, first + 64)))[0].backward()
            optimiser.step()
        batch = data.__getitems__(range(len(data)))
        error = (net.eval().forecast_batch(batch, 4) - batch["target"]).abs().mean(1)
        errors[tables is None] = float(error[batch["channel"] == 1].mean().detach())
    assert errors[False] < 0.7 * errors[True]


@pytest.mark.parametrize("kind", ["dense_active", "dense_total", "random_router"])
def test_the_controls_take_the_same_place(kind):
    net, (values, observed) = small(feed_forward=Control(kind, nearest)), windows()
    assert net.forecast(values, observed, 12).shape == (4, 12)


def test_routers_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="ExpertChoice is not causal"):
        small(feed_forward=lambda dim: MixtureFFN(dim, router=routers.ExpertChoice))
    with pytest.raises(ValueError, match="multiple of four times heads=4"):
        MoiraiMoE(dim=24, heads=4)


@pytest.mark.parametrize("head", [QuantileHead, MixtureHead])
def test_of_a_constant_window_nothing_but_the_constant_is_told(head: type) -> None:
    torch.manual_seed(0)
    net = MoiraiMoE(dim=16, depth=1, heads=2, patch=4, head=head).eval()
    x = torch.full((2, 24), 0.001)
    observed = torch.rand(2, 24) < 0.9
    assert (net.forecast(x, observed, 6) == x[0, 0]).all()
    assert (net.quantiles(x, observed, 6, torch.tensor([0.1, 0.9])) == x[0, 0]).all()
    time_moe = TimeMoE(dim=16, depth=1, heads=2, patch=4, horizons=(4,)).eval()
    assert (time_moe.forecast(x, observed, 6) == x[0, 0]).all()
