"""RidgeMoE: a ridge, and a network that is trained by itself."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from collegium import record, routers

from apps.common.controls import Control, MixtureFFN
from apps.common.errors import UserError
from apps.timeseries.baselines import PENALTIES, Ridge
from apps.timeseries.model import window_scale
from apps.timeseries.networks import RidgeMoE
from apps.timeseries.networks.ridge_moe import HALVINGS, POWERS
from apps.timeseries.scaler import Scaler
from apps.timeseries.tables import Table
from apps.timeseries.window_kinds import band
from apps.timeseries.windows import Batch, Windows, as_line

L, H = 24, 6


def two_rules(rows: int = 500, seed: int = 0) -> Windows:
    """A wave whose next steps are its past mirrored where the window rises, and kept where it falls."""
    steps = np.arange(rows)
    noise = np.random.default_rng(seed).normal(0, 0.05, (rows, 2))
    sign = np.where(steps // 50 % 2 == 0, 1.0, -1.0)[:, None]
    values = np.sin(2 * np.pi * steps / 12)[:, None] * sign + 3 * (sign > 0) + noise
    table = Table(values, pd.RangeIndex(rows), ("a", "b"), None)
    return Windows(as_line([table], Scaler.fit([table], [(0, rows)])), [(0, rows)] * 2, L, H)


def network(**options: object) -> RidgeMoE:
    torch.manual_seed(0)
    return RidgeMoE(L, H, dim=8, feed_forward=partial(MixtureFFN, num_experts=4, hidden=8), **options)


def batch(size: int = 9) -> Batch:
    windows = two_rules()
    return windows.__getitems__(torch.linspace(0, len(windows) - 1, size).long())


def awake(net: RidgeMoE) -> RidgeMoE:
    """With a ridge and a head that are not zero, in evaluation."""
    torch.nn.init.normal_(net.head.weight)
    torch.nn.init.normal_(net.weight, std=0.1)
    return net.eval()


def test_without_a_share_of_the_network_it_is_the_ridge_that_validates_best() -> None:
    train, validation = two_rules(), two_rules(seed=1)
    net = network(share=0.0)
    net.prepare(train, validation)
    found = Ridge.fit(train, validation, PENALTIES, POWERS, HALVINGS)
    assert len(found.validation) == len(PENALTIES) * len(POWERS)
    data = validation.__getitems__(torch.arange(50))
    wanted = found(data["context"], data["context_mask"])
    torch.testing.assert_close(net.eval().forecast(data["context"], data["context_mask"], H), wanted)


def test_the_steps_of_a_horizon_come_from_a_ridge_with_all_its_windows() -> None:
    train, validation = two_rules(), two_rules(seed=1)
    net = network(horizons=[2, 6])
    net.prepare(train, validation)
    assert len(train.of_horizon(2)) == len(train) + 2 * (H - 2)  # two series
    short, long = (
        Ridge.fit(train.of_horizon(h), validation.of_horizon(h), PENALTIES, POWERS, HALVINGS) for h in (2, H)
    )
    assert torch.equal(net.weight[:, :2], short.weight)
    assert torch.equal(net.weight[:, 2:], long.weight[:, 2:])


@pytest.mark.parametrize("base", ["mean", "ridge"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_formula_by_hand(share: float, base: str) -> None:
    net, data = awake(network(share=share, base=base)), batch()
    x = data["context"]
    last, mean = x[:, -1:], x.mean(1, keepdim=True)
    s = (x - mean).square().mean(1, keepdim=True).sqrt()
    v = net.embed((x - mean) / s)
    ridge = last + (x - last) @ net.weight
    learned = {"mean": mean, "ridge": ridge}[base] + s * net.head(v + net.mixture(net.norm(v)))
    wanted = (1 - share) * ridge + share * learned
    torch.testing.assert_close(net(x, data["context_mask"]), wanted)


def test_with_the_ridge_as_base_it_begins_there() -> None:
    net, data = network(base="ridge").eval(), batch()
    torch.nn.init.normal_(net.weight)
    x = data["context"]
    torch.testing.assert_close(net(x, data["context_mask"]), net.ridge(x))


def test_an_unknown_base_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown base 'last': choose one of mean, ridge"):
        network(base="last")


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_between_nothing_and_all(share: float) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        network(share=share)


def test_level_and_scale_of_a_window_go_through() -> None:
    net, data = awake(network()), batch()
    x, seen = data["context"], data["context_mask"]
    torch.testing.assert_close(net(3 * x + 5, seen), 3 * net(x, seen) + 5, rtol=1e-4, atol=1e-4)


def test_what_is_missing_is_not_read() -> None:
    net, data = awake(network()), batch()
    mask = torch.rand(data["context"].shape) < 0.7
    changed = data["context"].masked_fill(~mask, 99.0)
    torch.testing.assert_close(net(changed, mask), net(data["context"], mask))


def test_a_shorter_forecast_is_the_beginning_of_the_whole_and_a_longer_one_is_refused() -> None:
    net, data = awake(network()), batch()
    x, seen = data["context"], data["context_mask"]
    assert torch.equal(net.forecast(x, seen, 2), net.forecast(x, seen, H)[:, :2])
    with pytest.raises(UserError, match="forecasts 6 steps, not 7"):
        net.forecast(x, seen, 7)
    with pytest.raises(UserError, match="forecasts 6 steps, not 7"):
        net.loss({**data, "target": torch.zeros(9, 7), "target_mask": torch.ones(9, 7, dtype=torch.bool)})


def loss_by_hand(net: RidgeMoE, data: Batch, horizons: list[int], power: float) -> float:
    forecast = net.network(data["context"])
    share = window_scale(data["context"], data["context_mask"])[1] ** (-2 * power)
    error = (forecast - data["target"]).square() * share / share.mean() / 2
    return float(torch.stack([error[:, :h].mean() for h in horizons]).mean().detach())


@pytest.mark.parametrize("horizons", [[6], [2, 6], [1, 3, 4]])
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_the_loss_is_the_mean_of_the_horizons_errors(horizons: list[int], power: float) -> None:
    net, data = awake(network(horizons=horizons, power=power)), batch()
    loss, (forecast,) = net.loss(data)
    assert forecast.shape == data["target"].shape
    assert float(loss.detach()) == pytest.approx(loss_by_hand(net, data, horizons, power), rel=1e-4)


def test_missing_targets_have_no_share_in_the_loss() -> None:
    net, data = awake(network()), batch()
    mask = torch.rand(data["target"].shape) < 0.6
    seen: Batch = {**data, "target_mask": mask}
    changed: Batch = {**seen, "target": data["target"].masked_fill(~mask, 1e6)}
    torch.testing.assert_close(net.loss(seen)[0], net.loss(changed)[0])


def error(net: RidgeMoE, windows: Windows) -> float:
    data = windows.__getitems__(torch.arange(len(windows)))
    with torch.no_grad():
        found = net.eval()(data["context"], data["context_mask"])
    return float((found - data["target"]).square().mean())


@pytest.mark.parametrize("base", ["mean", "ridge"])
@pytest.mark.parametrize("kind", ["routed", "dense_active", "dense_total", "random_router"])
def test_training_leaves_the_ridge_behind_where_rules_change(kind: str, base: str) -> None:
    train, validation = two_rules(), two_rules(seed=1)
    torch.manual_seed(0)
    mixture = partial(MixtureFFN, num_experts=4, hidden=8)
    net = RidgeMoE(L, H, dim=8, feed_forward=Control(kind, mixture), base=base, share=1.0, dropout=0.0)
    net.prepare(train, validation)
    ridge, weight = error(net, validation), net.weight.clone()
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-2)
    net.train()
    for _ in range(150):
        loss, _ = net.loss(train.__getitems__(torch.randint(len(train), (64,))))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert error(net, validation) < 0.8 * ridge
    assert torch.equal(net.weight, weight)


def test_a_window_is_one_token() -> None:
    net, data = network(), batch()
    with record(net) as routings:
        net(data["context"], data["context_mask"])
    assert [calls[0].num_tokens for calls in routings.values()] == [9]


def test_state_comes_back() -> None:
    net, other, data = awake(network()), network().eval(), batch()
    other.load_state_dict(net.state_dict())
    inputs = data["context"], data["context_mask"]
    assert torch.equal(net(*inputs), other(*inputs))


@pytest.mark.parametrize("horizons", [[], [0, 3], [7]])
def test_horizons_out_of_reach_are_refused(horizons: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must lie between 1 and horizon=6$"):
        network(horizons=horizons)


def test_a_router_that_compares_windows_is_refused() -> None:
    with pytest.raises(ValueError, match="ExpertChoice is not causal"):
        RidgeMoE(L, H, feed_forward=partial(MixtureFFN, router=routers.ExpertChoice))


def test_windows_of_a_shorter_horizon_are_refused() -> None:
    windows = two_rules().of_horizon(3)
    with pytest.raises(UserError, match=r"forecasts 6 steps and data\.horizon is 3: make the two alike"):
        network().prepare(windows, windows)


def test_a_router_may_ask_for_the_band_of_a_window() -> None:
    net = RidgeMoE(L, H, dim=8, feed_forward=partial(MixtureFFN, num_experts=4, router=routers.Lookup))
    data = batch()
    with record(net) as routings:
        net(data["context"], data["context_mask"])
    (routing,) = routings["mixture"]
    assert torch.equal(routing.context.label, band(data["context"]))


def test_the_ridge_is_counted_and_not_trained() -> None:
    net = network()
    assert net.weight.numel() == L * H
    assert "weight" in dict(net.named_parameters())
    assert not net.weight.requires_grad


@pytest.mark.parametrize("base", ["mean", "ridge"])
def test_a_constant_window_stays_constant(base: str) -> None:
    net = awake(network(base=base))
    x = torch.tensor([[0.0], [0.01], [1000.0]]).expand(3, L)
    found = net(x, torch.ones_like(x, dtype=torch.bool))
    torch.testing.assert_close(found, x[:, :1].expand(3, H))
