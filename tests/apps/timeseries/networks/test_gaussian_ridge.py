"""The ridge with normal deviations, against scipy and on series whose noise is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from apps.common.errors import UserError
from apps.timeseries.baselines import Ridge
from apps.timeseries.networks import GaussianRidge
from apps.timeseries.scaler import Scaler
from apps.timeseries.tables import Table
from apps.timeseries.windows import Windows, as_line


@pytest.fixture
def parts() -> tuple[Windows, Windows]:
    """Windows of a random walk with steps of deviation 1."""
    walk = np.random.default_rng(0).standard_normal((6000, 1)).cumsum(0)
    table = Table(walk, pd.RangeIndex(6000), ("walk",))
    line = as_line([table], Scaler(("walk",), torch.zeros(1), torch.ones(1)))
    return Windows(line, [(0, 4000)], 20, 4), Windows(line, [(4000, 6000)], 20, 4)


@pytest.fixture
def network(parts: tuple[Windows, Windows]) -> GaussianRidge:
    made = GaussianRidge(20, 4)
    made.prepare(*parts)
    return made


def test_the_forecast_is_the_ridge(network: GaussianRidge, parts: tuple[Windows, Windows]) -> None:
    batch = parts[1].__getitems__([0, 5, 9])
    ridge = Ridge.fit(*parts)
    known = batch["context"], batch["context_mask"]
    torch.testing.assert_close(network.forecast(*known, 4), ridge(*known))
    torch.testing.assert_close(network.forecast(*known, 2), ridge(*known)[:, :2])
    with pytest.raises(UserError, match="forecasts 4 steps, not 5"):
        network.forecast(*known, 5)


def test_the_deviation_is_that_of_the_errors_of_validation(
    network: GaussianRidge, parts: tuple[Windows, Windows]
) -> None:
    (batch,) = parts[1].batches(10_000)
    scale = batch["context"].std(1, correction=0, keepdim=True)
    errors = (network.forecast(batch["context"], batch["context_mask"], 4) - batch["target"]) / scale
    torch.testing.assert_close(
        network.log_deviation.exp().data, errors.square().mean(0).sqrt(), rtol=1e-4, atol=1e-4
    )
    assert (network.log_deviation.diff() > 0).all()  # a random walk is the less certain the farther away


def test_quantiles_are_those_of_scipy(network: GaussianRidge, parts: tuple[Windows, Windows]) -> None:
    batch, levels = parts[1].__getitems__([3]), torch.tensor([0.05, 0.5, 0.9])
    found = network.quantiles(batch["context"], batch["context_mask"], 4, levels)
    middle = network.forecast(batch["context"], batch["context_mask"], 4)[0].detach().numpy()
    deviation = network.log_deviation.exp().detach().numpy() * batch["context"].std(correction=0).item()
    expected = stats.norm.ppf(levels.numpy(), middle[:, None], deviation[:, None])
    np.testing.assert_allclose(found[0].detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_likelihood_of_the_observed_targets(
    network: GaussianRidge, parts: tuple[Windows, Windows]
) -> None:
    batch = parts[1].__getitems__([3, 8])
    batch["target_mask"] = torch.tensor([[True, True, False, True], [False, True, True, True]])
    loss, (forecast,) = network.loss(batch)
    scale = batch["context"].std(1, correction=0, keepdim=True)
    sure = torch.distributions.Normal(forecast / scale, network.log_deviation.exp())
    surprise = -sure.log_prob(batch["target"] / scale)[batch["target_mask"]].mean()
    torch.testing.assert_close(loss, surprise - np.log(2 * np.pi) / 2, rtol=1e-4, atol=1e-4)
    loss.backward()
    assert network.log_deviation.grad is not None
    assert (network.log_deviation.grad != 0).all()
