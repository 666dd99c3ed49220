"""BesideRidge: a network and a ridge, averaged."""

import pytest
import torch

from apps.common.errors import UserError
from apps.timeseries.baselines import PENALTIES, Ridge
from apps.timeseries.networks import BesideRidge, TimeMoE
from apps.timeseries.networks.ridge_moe import POWERS
from tests.apps.timeseries.networks.test_ridge_moe import H, L, batch, two_rules


def blend(share: float, **options: object) -> BesideRidge:
    torch.manual_seed(0)
    inner = TimeMoE(dim=16, depth=1, heads=2, patch=6, horizons=[H])
    return BesideRidge(inner, L, H, share=share, **options).eval()


def test_it_lies_between_the_ridge_and_the_network() -> None:
    train, validation = two_rules(), two_rules(seed=1)
    data = validation.__getitems__(torch.arange(40))
    x, observed = data["context"], data["context_mask"]
    forecasts = {}
    for share in (0.0, 0.3, 1.0):
        network = blend(share)
        network.prepare(train, validation)
        forecasts[share] = network.forecast(x, observed, H)
        torch.testing.assert_close(network.forecast_batch(data, H), forecasts[share])
    ridge = Ridge.fit(train, validation, PENALTIES, POWERS)
    torch.testing.assert_close(forecasts[0.0], ridge(x, observed))
    torch.testing.assert_close(forecasts[1.0], network.network.forecast(x, observed, H))
    torch.testing.assert_close(forecasts[0.3], 0.7 * forecasts[0.0] + 0.3 * forecasts[1.0])


def test_the_network_learns_by_its_own_loss() -> None:
    network = blend(0.5)
    torch.manual_seed(1)
    loss, _ = network.train().loss(batch())
    torch.manual_seed(1)
    own, _ = network.network.loss(batch())
    assert loss == own
    loss.backward()
    assert network.weight.grad is None


def test_a_short_forecast_is_that_of_its_own_ridge() -> None:
    train, validation = two_rules(), two_rules(seed=1)
    network = blend(0.0, horizons=[2])
    network.prepare(train, validation)
    data = validation.__getitems__(torch.arange(20))
    short = Ridge.fit(train.of_horizon(2), validation.of_horizon(2), PENALTIES, POWERS)
    wanted = short(data["context"], data["context_mask"])
    torch.testing.assert_close(network.forecast(data["context"], data["context_mask"], H)[:, :2], wanted)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        blend(1.5)
    with pytest.raises(ValueError, match="between 1 and horizon"):
        blend(0.5, horizons=[H + 1])
    network = blend(0.5)
    x = torch.zeros(2, L)
    with pytest.raises(UserError, match="ask for fewer"):
        network.forecast(x, x == 0, H + 1)
    with pytest.raises(UserError, match="make model and data alike"):
        network.prepare(two_rules().of_horizon(2), two_rules().of_horizon(2))
