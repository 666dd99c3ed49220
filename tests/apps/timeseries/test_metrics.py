"""Metrics against sklearn, hand computation and masks."""

import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error

from apps.timeseries import metrics

NAN = float("nan")


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(20, 6, generator=generator), torch.randn(20, 6, generator=generator)


def test_errors_by_window_equal_sklearn(pair):
    forecast, target = pair
    squared = mean_squared_error(target.T, forecast.T, multioutput="raw_values")
    absolute = mean_absolute_error(target.T, forecast.T, multioutput="raw_values")
    assert metrics.mse(forecast, target).tolist() == pytest.approx(squared.tolist())
    assert metrics.mae(forecast, target).tolist() == pytest.approx(absolute.tolist())


def test_the_average_is_the_mean_over_windows_and_steps(pair):
    forecast, target = pair
    expected = mean_squared_error(target, forecast)
    assert metrics.average(metrics.mse(forecast, target)).item() == pytest.approx(expected)


def test_transposed_tensors_give_errors_by_step(pair):
    forecast, target = pair
    expected = mean_squared_error(target, forecast, multioutput="raw_values")
    assert metrics.mse(forecast.T, target.T).tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("metric", [metrics.mse, metrics.mae, metrics.smape])
def test_masked_points_do_not_count(pair, metric):
    forecast, target = pair
    mask = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    spoilt = target.where(mask, torch.tensor(1e9))
    by_window = metric(forecast, spoilt, mask)
    for row in range(len(target)):
        alone = metric(forecast[row, mask[row]], target[row, mask[row]])
        assert by_window[row].item() == pytest.approx(alone.item())


def test_a_window_without_any_target_is_skipped_in_the_average(pair):
    forecast, target = pair
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[3] = False
    errors = metrics.mse(forecast, target, mask)
    assert errors.isnan().tolist() == [row == 3 for row in range(20)]
    others = [row for row in range(20) if row != 3]
    expected = mean_squared_error(target[others], forecast[others])
    assert metrics.average(errors).item() == pytest.approx(expected)


def test_nothing_observed_is_nan_not_zero(pair):
    forecast, target = pair
    nowhere = torch.zeros_like(target, dtype=torch.bool)
    assert metrics.average(metrics.mae(forecast, target, nowhere)).isnan()


def test_smape_by_hand():
    forecast, target = torch.tensor([[1.0, 0.0, -2.0, 3.0]]), torch.tensor([[3.0, 0.0, 2.0, 3.0]])
    # 200 * (2/4, 0 where both are zero, 4/4, 0) -> mean of 100, 0, 200, 0
    assert metrics.smape(forecast, target).item() == pytest.approx(75.0)


def test_naive_error_by_hand_with_a_gap():
    values = torch.tensor([[1.0, 1.0], [2.0, NAN], [4.0, 3.0], [8.0, NAN]])
    # season 2: |4-1|, |8-2| -> 4.5; |3-1| and an unknown -> 2
    assert metrics.naive_error(values, 2).tolist() == [4.5, 2.0]
    assert metrics.naive_error(values, 1)[1].isnan()


def test_mase_by_hand():
    forecast, target = torch.tensor([[1.0, 2.0], [5.0, 5.0], [9.0, 9.0]]), torch.zeros(3, 2)
    by_window = metrics.mase(forecast, target, scale=torch.tensor([2.0, 10.0, 0.0]))
    # 1.5 / 2 and 5 / 10; the last window has no scale
    assert by_window[:2].tolist() == pytest.approx([0.75, 0.5])
    assert by_window[2].isnan()


def test_mase_of_the_seasonal_naive_forecast_on_its_training_rows_is_one():
    series = torch.randn(40, 1, generator=torch.Generator().manual_seed(0)).cumsum(0)
    scale = metrics.naive_error(series, 4)
    assert metrics.mase(series[:-4].T, series[4:].T, scale).item() == pytest.approx(1.0)
