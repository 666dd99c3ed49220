"""Baselines by hand, and the closed form against sklearn."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as SklearnRidge

from apps.timeseries.baselines import Ridge, fill_forward, moments, repeat_last, seasonal_naive, solve
from apps.timeseries.scaler import Scaler
from apps.timeseries.tables import Table
from apps.timeseries.windows import Windows, as_line


def seen(values: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(values, dtype=torch.bool)


def make_windows(values: np.ndarray, context: int, horizon: int) -> Windows:
    table = Table(values, pd.RangeIndex(len(values)), tuple("abcdef"[: values.shape[1]]))
    spans = [(0, len(values))]
    return Windows(as_line([table], Scaler.fit([table], spans)), spans * values.shape[1], context, horizon)


def walk(rows: int = 200, series: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, series)).cumsum(0)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.floats(-9, 9, width=32)), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_fill_forward_equals_pandas(rows):
    frame = pd.DataFrame(rows, dtype="float64").T
    mask = torch.from_numpy(frame.notna().T.to_numpy().copy())
    values = torch.from_numpy(frame.fillna(0.0).T.to_numpy().copy())
    expected = frame.ffill().bfill().fillna(0.0).T.to_numpy()
    np.testing.assert_array_equal(fill_forward(values, mask).numpy(), expected)


def test_repeat_last_skips_what_is_missing():
    context = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert repeat_last(context, mask, 2).tolist() == [[3.0, 3.0], [2.0, 2.0]]


def test_seasonal_naive_repeats_the_last_season():
    context = torch.arange(7.0).unsqueeze(0)
    assert seasonal_naive(context, seen(context), 5, 3).tolist() == [[4.0, 5.0, 6.0, 4.0, 5.0]]


def test_seasonal_naive_looks_further_back_for_missing_steps():
    context = torch.tensor([[1.0, 2.0, 3.0, 0.0, 5.0, 0.0]])
    mask = torch.tensor([[True, True, False, False, True, False]])
    # phases of season 3: (1, missing) -> 1; (2, 5) -> 5; never observed -> the last value, 5
    assert seasonal_naive(context, mask, 3, 3).tolist() == [[1.0, 5.0, 5.0]]


def test_seasonal_naive_with_a_short_context_repeats_the_last_value():
    context = torch.arange(4.0).unsqueeze(0)
    assert seasonal_naive(context, seen(context), 2, 24).tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize("penalty", [1e-3, 0.5])
def test_ridge_equals_sklearn(penalty: float):
    windows = make_windows(walk(), 12, 5)
    batch = windows.__getitems__(range(len(windows)))
    last = batch["context"][:, -1:].double()
    x, y = batch["context"].double() - last, batch["target"].double() - last
    reference = SklearnRidge(alpha=penalty * len(windows), fit_intercept=False, solver="cholesky").fit(x, y)
    weight = solve(moments(windows), [penalty])[penalty]
    np.testing.assert_allclose(weight.T, reference.coef_, atol=1e-7)


def test_moments_do_not_depend_on_the_chunk():
    windows = make_windows(walk(), 12, 5)
    for small, whole in zip(moments(windows, size=17), moments(windows, size=10**6), strict=True):
        torch.testing.assert_close(small, whole)


def test_validation_errors_are_the_mean_squared_errors_and_the_least_is_chosen():
    train, validation = make_windows(walk(), 12, 5), make_windows(walk(seed=1), 12, 5)
    batch = validation.__getitems__(range(len(validation)))
    ridge = Ridge.fit(train, validation, [1e-3, 1.0, 100.0], powers=[0.0, 1.0])
    assert len(ridge.validation) == 6
    for (power, penalty), error in ridge.validation.items():
        alone = Ridge.fit(train, validation, [penalty], [power])
        forecast = alone(batch["context"], batch["context_mask"])
        assert (forecast - batch["target"]).square().mean().item() == pytest.approx(error, rel=1e-4)
    assert (ridge.power, ridge.penalty) == min(ridge.validation, key=ridge.validation.__getitem__)


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_the_ridges_of_some_horizons_are_those_of_each(power: float):
    train, validation = make_windows(walk(), 12, 5), make_windows(walk(seed=1), 12, 5)
    found = Ridge.fit_each(train, validation, [2, 5, 3], powers=[power])
    assert set(found) == {2, 3, 5}
    for horizon, ridge in found.items():
        alone = Ridge.fit(train.of_horizon(horizon), validation.of_horizon(horizon), powers=[power])
        assert ridge.penalty == alone.penalty
        torch.testing.assert_close(ridge.weight, alone.weight)
        assert ridge.validation == pytest.approx(alone.validation)


def plain_windows(windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contexts and targets less the last value of the context, and that value."""
    batch = windows.__getitems__(range(len(windows)))
    context, target = batch["context"].double().numpy(), batch["target"].double().numpy()
    return context - context[:, -1:], target - context[:, -1:], context[:, -1:]


def test_a_mean_of_maps_reads_the_last_half_and_the_last_quarter_too():
    penalties = [1e-3, 0.1, 10.0]
    train, validation = make_windows(walk(), 12, 5), make_windows(walk(seed=1), 12, 5)
    (x, y, _), (held_x, held_y, last) = plain_windows(train), plain_windows(validation)
    total, errors = np.zeros_like(held_y), []
    for count, rows in enumerate((12, 6, 3), 1):
        forecasts = []
        for penalty in penalties:
            ridge = SklearnRidge(alpha=penalty * len(x), fit_intercept=False, solver="cholesky")
            forecasts.append(ridge.fit(x[:, -rows:], y).predict(held_x[:, -rows:]))
        total += min(forecasts, key=lambda forecast: ((forecast - held_y) ** 2).mean())
        errors.append(((total / count - held_y) ** 2).mean())
    assert len(set(errors)) == 3
    batch = validation.__getitems__(range(len(validation)))
    for halvings in (0, 1, 2):
        ridge = Ridge.fit(train, validation, penalties, halvings=halvings)
        assert ridge.means == pytest.approx(errors[: halvings + 1], rel=1e-6)
        found = ridge(batch["context"], batch["context_mask"]).numpy() - last - held_y
        assert (found**2).mean() == pytest.approx(min(errors[: halvings + 1]), rel=1e-4)


def test_windows_count_by_a_power_of_their_deviation():
    windows, power = make_windows(walk(), 12, 5), 1.5
    batch = windows.__getitems__(range(len(windows)))
    last = batch["context"][:, -1:].double()
    x, y = batch["context"].double() - last, batch["target"].double() - last
    weight = x.std(1, correction=0).clamp(min=1e-2) ** (-2 * power)
    reference = SklearnRidge(alpha=0.5, fit_intercept=False, solver="cholesky")
    reference.fit(x, y, sample_weight=weight / weight.sum())
    found = solve(moments(windows, power), [0.5])[0.5]
    np.testing.assert_allclose(found.T, reference.coef_, atol=1e-7)


def test_ridge_finds_a_linear_rule_and_moves_with_the_level():
    rows = np.arange(300)
    values = np.stack([np.sin(2 * np.pi * rows / 12), 5 + np.sin(2 * np.pi * (rows + 3) / 12)], axis=1)
    windows = make_windows(values, 24, 6)
    ridge = Ridge.fit(windows, windows)
    batch = windows.__getitems__(range(len(windows)))
    forecast = ridge(batch["context"], batch["context_mask"])
    torch.testing.assert_close(forecast, batch["target"], atol=1e-3, rtol=0)
    lifted = ridge(batch["context"] + 7, batch["context_mask"])
    torch.testing.assert_close(lifted, forecast + 7, atol=1e-4, rtol=0)


def test_ridge_bridges_gaps_in_training_and_in_the_context():
    rows = np.arange(400)
    values = np.sin(2 * np.pi * rows / 12)[:, None].copy()
    gappy = values.copy()
    gappy[::37] = np.nan
    ridge = Ridge.fit(make_windows(gappy, 24, 6), make_windows(gappy, 24, 6))
    batch = make_windows(gappy, 24, 6).__getitems__(range(300))
    error = (ridge(batch["context"], batch["context_mask"]) - batch["target"])[batch["target_mask"]]
    assert error.square().mean() < 0.1
