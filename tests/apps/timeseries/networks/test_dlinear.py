"""DLinear's parts by hand."""

import pytest
import torch

from apps.common.errors import UserError
from apps.timeseries.networks.dlinear import DLinear, moving_average


def test_moving_average_by_hand():
    values = torch.tensor([[3.0, 0.0, 6.0, 3.0]])
    # the ends repeat outwards: (3 3 0), (3 0 6), (0 6 3), (6 3 3)
    assert moving_average(values, 3).tolist() == [[2.0, 3.0, 3.0, 4.0]]


def test_trend_and_remainder_add_up_when_their_maps_agree():
    torch.manual_seed(0)
    model, values = DLinear(30, 7), torch.randn(4, 30)
    model.remainder.load_state_dict(model.trend.state_dict())
    expected = model.trend(values) + model.trend.bias  # linear in trend + remainder = values, with two biases
    torch.testing.assert_close(model(values, torch.ones(4, 30, dtype=torch.bool)), expected)


def test_what_is_missing_is_not_read():
    torch.manual_seed(0)
    model, values = DLinear(30, 7), torch.randn(4, 30)
    mask = torch.rand(4, 30) < 0.7
    torch.testing.assert_close(model(values, mask), model(values.masked_fill(~mask, 99.0), mask))


def test_every_weight_gets_gradient():
    torch.manual_seed(0)
    model = DLinear(30, 7)
    model(torch.randn(4, 30), torch.ones(4, 30, dtype=torch.bool)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_shorter_forecast_is_the_beginning_of_the_whole_and_a_longer_one_is_refused():
    torch.manual_seed(0)
    model, values, mask = DLinear(30, 7), torch.randn(4, 30), torch.ones(4, 30, dtype=torch.bool)
    assert torch.equal(model.forecast(values, mask, 3), model(values, mask)[:, :3])
    with pytest.raises(UserError, match="forecasts 7 steps, not 8"):
        model.forecast(values, mask, 8)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel must be odd, got 24"):
        DLinear(30, 7, kernel=24)
