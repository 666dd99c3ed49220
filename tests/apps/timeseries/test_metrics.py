"""Metrics against sklearn, hand computation and masks."""

import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, mean_squared_error

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


def test_pinball_by_hand():
    quantiles = torch.tensor([[[1.0, 4.0], [2.0, 2.0]]])
    target, levels = torch.tensor([[3.0, 0.0]]), torch.tensor([0.1, 0.9])
    # 0.1 * 2 and 0.1 * 1 for the target of 3; 0.9 * 2 and 0.1 * 2 for that of 0
    assert metrics.pinball(quantiles, target, levels).item() == pytest.approx((0.2 + 0.1 + 1.8 + 0.2) / 4)


def test_pinball_equals_sklearn(pair):
    forecast, target = pair
    for level in (0.1, 0.5, 0.8):
        found = metrics.pinball(forecast.unsqueeze(-1), target, torch.tensor([level]))
        expected = mean_pinball_loss(target, forecast, alpha=level)
        assert metrics.average(found).item() == pytest.approx(expected)


def test_crps_of_a_median_alone_is_the_absolute_error(pair):
    forecast, target = pair
    found = metrics.crps(forecast.unsqueeze(-1), target, torch.tensor([0.5]))
    torch.testing.assert_close(found, metrics.mae(forecast, target))


def test_crps_of_samples_is_exact():
    samples = torch.randn(4, 3, 9, generator=torch.Generator().manual_seed(0)).sort(-1).values
    target = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    found = metrics.crps(samples, target, (torch.arange(9) + 0.5) / 9)
    to_target = (samples - target.unsqueeze(-1)).abs().mean(-1)
    to_each_other = (samples.unsqueeze(-1) - samples.unsqueeze(-2)).abs().mean((-1, -2))
    torch.testing.assert_close(found, (to_target - to_each_other / 2).mean(-1))  # E|X - y| - E|X - X'| / 2


def test_crps_of_many_quantiles_nears_that_of_the_normal_distribution():
    levels = (torch.arange(2000) + 0.5) / 2000
    quantiles, target = torch.special.ndtri(levels).expand(5, 1, -1), torch.linspace(-3, 2, 5)[:, None]
    y = target[:, 0]
    density = torch.exp(-y.square() / 2) / (2 * torch.pi) ** 0.5
    exact = y * (2 * torch.special.ndtr(y) - 1) + 2 * density - torch.pi**-0.5
    torch.testing.assert_close(metrics.crps(quantiles, target, levels), exact, rtol=1e-3, atol=1e-3)


def test_weighted_quantile_loss_of_gluonts_is_a_sum_of_crps(pair):
    forecast, target = pair
    levels = torch.tensor([0.1, 0.5, 0.9])
    quantiles = forecast.unsqueeze(-1) + torch.tensor([-1.0, 0.0, 1.0])
    weighted = []
    for column, level in zip(quantiles.unbind(-1), levels, strict=True):
        loss = 2 * ((column - target) * ((target <= column).float() - level)).abs().sum()
        weighted.append(loss / target.abs().sum())
    steps = target.shape[1]
    found = (metrics.crps(quantiles, target, levels) * steps).sum() / target.abs().sum()
    torch.testing.assert_close(found, torch.stack(weighted).mean())


def test_coverage_by_hand():
    low, high = torch.tensor([[0.0, 0.0, 0.0, 5.0]]), torch.tensor([[1.0, 1.0, 1.0, 6.0]])
    target = torch.tensor([[0.0, 0.5, 1.5, NAN]])
    mask = torch.tensor([[True, True, True, False]])
    assert metrics.coverage(low, high, target, mask).item() == pytest.approx(2 / 3)


def test_msis_by_hand():
    low, high = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[2.0, 2.0, 2.0]])
    target = torch.tensor([[1.0, 3.0, -0.5]])
    # widths of 2, and at level 0.95 forty times 0, 1 and 0.5, over a scale of 4
    found = metrics.msis(low, high, target, 0.95, torch.tensor([4.0]))
    assert found.item() == pytest.approx((2 + 42 + 22) / 3 / 4)


def test_what_is_missing_has_no_share_in_the_metrics_of_quantiles(pair):
    forecast, target = pair
    levels = torch.tensor([0.1, 0.9])
    quantiles = forecast.unsqueeze(-1) + torch.tensor([-1.0, 1.0])
    mask = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    spoilt = target.where(mask, torch.tensor(NAN))
    scale = torch.ones(len(target))
    low, high = quantiles.unbind(-1)
    found = (
        metrics.crps(quantiles, spoilt, levels, mask),
        metrics.coverage(low, high, spoilt, mask),
        metrics.msis(low, high, spoilt, 0.8, scale, mask),
    )
    for row in range(len(target)):
        own = mask[row]
        alone = (
            metrics.crps(quantiles[row, own], target[row, own], levels),
            metrics.coverage(low[row, own], high[row, own], target[row, own]),
            metrics.msis(low[row, own], high[row, own], target[row, own], 0.8, scale[row]),
        )
        for whole, one in zip(found, alone, strict=True):
            assert whole[row].item() == pytest.approx(one.item(), rel=1e-5)
