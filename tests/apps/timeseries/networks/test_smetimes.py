"""SMETimes: its mixture, its fusion, causality, missing points, invariances."""

from functools import partial

import pytest
import torch
from collegium import balance, inspection, record, routers
from torch import Tensor

from apps.common.controls import KINDS, Control, DenseFFN
from apps.timeseries.model import squares, window_scale
from apps.timeseries.networks import SMETimes
from apps.timeseries.networks.smetimes import FusedEmbedding, LinearMixture
from apps.timeseries.statistics import statistics


def small(**options: object) -> SMETimes:
    torch.manual_seed(0)
    given = {"dim": 16, "depth": 1, "heads": 2, "patch": 4, "lags": 2, **options}
    return SMETimes(**given).eval()  # type: ignore[arg-type]


def windows(length: int = 24, batch: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    values = torch.randn(batch, length).cumsum(1)
    return values, torch.ones_like(values, dtype=torch.bool)


def training_batch(size: int = 16) -> dict[str, Tensor]:
    series, mask = windows(32, size)
    return {
        "context": series[:, :24],
        "context_mask": mask[:, :24],
        "target": series[:, 24:],
        "target_mask": mask[:, 24:],
    }


def test_the_mixture_is_a_plain_sum() -> None:
    torch.manual_seed(0)
    block, x = LinearMixture(6, num_experts=3), torch.randn(4, 5, 6)
    weight = (x @ block.router.gate.weight.T).softmax(-1)
    maps = torch.stack([x @ expert.weight.T for expert in block.experts.experts], -1)
    assert block.shared is not None
    expected = x @ block.shared.weight.T + (maps * weight[..., None, :]).sum(-1)
    torch.testing.assert_close(block(x), expected)
    bare = LinearMixture(6, num_experts=1, base=False)
    torch.testing.assert_close(bare(x), x @ bare.experts.experts[0].weight.T)


def test_sparse_routers_fit_and_those_that_look_ahead_are_refused() -> None:
    net, (values, observed) = small(feed_forward=partial(LinearMixture, router=routers.TopK)), windows()
    with record(net) as routings:
        net(values, observed)
    assert routings["mixture"][0].counts.sum() == 2 * 3 * 6
    with pytest.raises(ValueError, match="ExpertChoice is not causal"):
        small(feed_forward=partial(LinearMixture, router=routers.ExpertChoice))
    with pytest.raises(ValueError, match="MultiGate gives a token an output for each"):
        LinearMixture(8, router=routers.MultiGate)


def test_load_balance_is_constant_over_all_experts_and_information_is_not() -> None:
    block, x = LinearMixture(6), torch.randn(40, 6)
    with record(block) as routings:
        block(x)
    (still,) = torch.autograd.grad(
        balance.load_balance(routings), block.router.gate.weight, retain_graph=True
    )
    assert still.abs().max() < 1e-6
    (moving,) = torch.autograd.grad(balance.information(routings), block.router.gate.weight)
    assert moving.abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_every_control_takes_the_mixtures_place(kind: str) -> None:
    control = Control(kind, LinearMixture)  # type: ignore[arg-type]
    net, (values, observed) = small(feed_forward=control), windows()
    assert net.forecast(values, observed, 9).shape == (3, 9)
    wanted = inspection.parameters(LinearMixture(16))[1]
    assert inspection.parameters(net.mixture)[1] == pytest.approx(wanted, abs=1.5 * 16)
    assert isinstance(net.mixture, DenseFFN) == kind.startswith("dense")


def test_fusion_begins_as_the_plain_mean() -> None:
    torch.manual_seed(0)
    embed, (values, observed) = FusedEmbedding(4, 8, 2), windows()
    values, observed = values.view(3, 6, 4), observed.view(3, 6, 4)
    points, numbers = embed.points(values), embed.numbers(statistics(values, observed, 2))
    torch.testing.assert_close(embed(values, observed), (points + numbers) / 2)
    with torch.no_grad():
        embed.gate.fill_(30.0)
    torch.testing.assert_close(embed(values, observed), points)


def test_a_token_does_not_see_what_follows_it() -> None:
    net, (values, observed) = small(), windows()
    changed = values.clone()
    changed[:, 12:] += 5.0
    (before,), (after,) = net(values, observed), net(changed, observed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amax((0, 2)).gt(1e-3).all()


def test_the_last_token_alone_forecasts_as_among_all() -> None:
    net, (values, observed) = small(), windows()
    observed[0, :8] = False
    torch.testing.assert_close(net(values, observed)[0][:, -1:], net(values, observed, last=True)[0])


def test_forecasts_are_fed_back_token_by_token() -> None:
    net, (values, observed) = small(), windows()
    mean, scale = window_scale(values, observed)
    window, parts = (values - mean) / scale, []
    for _ in range(3):
        parts.append(net(window, observed)[0][:, -1])
        window = torch.cat([window[:, 4:], parts[-1]], 1)
    expected = torch.cat(parts, 1)[:, :10] * scale + mean
    torch.testing.assert_close(net.forecast(values, observed, 10), expected)


def test_forecast_follows_shift_and_scale_of_the_window() -> None:
    net, (values, observed) = small(), windows()
    plain, moved = net.forecast(values, observed, 20), net.forecast(values * 7.0 - 3.0, observed, 20)
    torch.testing.assert_close(moved, plain * 7.0 - 3.0, rtol=1e-4, atol=1e-3)


def test_what_stands_at_missing_points_does_not_matter() -> None:
    net, (values, observed) = small(), windows()
    observed[:, 5:14] = False
    noise = values.masked_fill(~observed, 1e4)
    torch.testing.assert_close(net.forecast(values, observed, 12), net.forecast(noise, observed, 12))
    observed[0] = False
    assert net.forecast(values, observed, 12).isfinite().all()


def test_padding_on_the_left_changes_nothing() -> None:
    net, (values, observed) = small(), windows()
    padded = torch.cat([torch.zeros(3, 8), values], 1)
    mask = torch.cat([torch.zeros(3, 8, dtype=torch.bool), observed], 1)
    torch.testing.assert_close(
        net.forecast(padded, mask, 4), net.forecast(values, observed, 4), rtol=1e-4, atol=1e-4
    )


def test_the_loss_is_the_squared_error_of_the_token_after_each() -> None:
    net, batch = small(), training_batch()
    loss, (forecast,) = net.loss(batch)  # type: ignore[arg-type]
    series = torch.cat([batch["context"], batch["target"]], 1)
    mean, scale = window_scale(batch["context"], batch["context_mask"])
    wanted = ((series - mean) / scale)[:, 4:28].view(16, 6, 4)
    torch.testing.assert_close(loss, squares(forecast, wanted, torch.ones_like(wanted, dtype=torch.bool)))


def test_training_lowers_the_loss_and_every_parameter_learns() -> None:
    net, batch = small().train(), training_batch()
    batch["context_mask"] = batch["context_mask"].clone()
    batch["context_mask"][:, 6] = False
    optimizer, losses, moved = torch.optim.Adam(net.parameters(), lr=1e-2), [], set()
    for _ in range(40):
        loss, _ = net.loss(batch)  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()
        moved |= {name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert moved == {name for name, _ in net.named_parameters()}


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of patch=4"):
        small(horizons=(6,))
    with pytest.raises(ValueError, match="multiple of twice heads"):
        small(dim=12, heads=8)
