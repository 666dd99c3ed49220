"""Standard scores from the rows allowed, missing values left out."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from apps.common.errors import UserError
from apps.timeseries.scaler import Scaler
from apps.timeseries.tables import Table
from apps.timeseries.windows import as_line


def table(values: np.ndarray, names: tuple[str, ...]) -> Table:
    return Table(values, pd.RangeIndex(len(values)), names)


@pytest.fixture
def gappy() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 5, (50, 2))
    values[rng.random(values.shape) < 0.2] = np.nan
    return values


def test_equals_sklearn_on_the_training_rows(gappy: np.ndarray):
    reference = StandardScaler().fit(gappy[10:40])
    scaler = Scaler.fit([table(gappy, ("a", "b"))], [(10, 40)])
    np.testing.assert_allclose(scaler.mean, reference.mean_)
    np.testing.assert_allclose(scaler.std, reference.scale_)
    scaled = scaler.scale(torch.from_numpy(gappy.T), torch.tensor([0, 1]))
    np.testing.assert_allclose(scaled.T, reference.transform(gappy))


def test_later_rows_do_not_matter(gappy: np.ndarray):
    other = gappy.copy()
    other[40:] *= 100
    first = Scaler.fit([table(gappy, ("a", "b"))], [(0, 40)])
    second = Scaler.fit([table(other, ("a", "b"))], [(0, 40)])
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.std, second.std)


def test_restore_undoes_scale_for_channels_in_any_order(gappy: np.ndarray):
    scaler = Scaler.fit([table(gappy, ("a", "b"))], [(0, 50)])
    values, channel = torch.randn(5, 7), torch.tensor([1, 0, 0, 1, 1])
    again = scaler.restore(scaler.scale(values, channel), channel)
    torch.testing.assert_close(again, values.double(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        scaler.restore(values, channel)[0], values[0].double() * scaler.std[1] + scaler.mean[1]
    )


def test_large_values_keep_their_digits():
    rows = 1e9 + np.arange(40.0)
    scaler = Scaler.fit([table(rows[:, None], ("a",))], [(0, 40)])
    values, channel = torch.from_numpy(rows[None]), torch.tensor([0])
    found = scaler.restore(scaler.scale(values, channel).float(), channel)
    torch.testing.assert_close(found, values, rtol=0, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 4.0, 0.1, -1e7 / 3])
def test_a_constant_series_keeps_its_distance_to_the_mean(value: float):
    scaler = Scaler.fit([table(np.full((9, 1), value), ("a",))], [(0, 9)])
    values = torch.tensor([[value, value + 2]], dtype=torch.float64)
    torch.testing.assert_close(
        scaler.scale(values, torch.tensor([0])).tolist(), [[0.0, 2.0]], atol=1e-8, rtol=0
    )


def test_tables_of_different_lengths_are_laid_side_by_side():
    tables = [table(np.arange(4.0)[:, None], ("a",)), table(np.arange(8.0)[:, None], ("b",))]
    scaler = Scaler.fit(tables, [(0, 4), (0, 2)])
    assert scaler.names == ("a", "b")
    assert scaler.mean.tolist() == [1.5, 0.5]


def test_a_series_without_training_values_is_refused(gappy: np.ndarray):
    gappy[:30, 1] = np.nan
    with pytest.raises(UserError, match="'b' has no value in rows 1 to 30, which set its scale: fill it"):
        Scaler.fit([table(gappy, ("a", "b"))], [(0, 30)])


def test_values_that_overflow_are_refused(gappy: np.ndarray):
    gappy[3, 1] = 1e200
    with pytest.raises(UserError, match=r"'b' reaches 1e\+200, too large to be told apart"):
        Scaler.fit([table(gappy, ("a", "b"))], [(0, 30)])
    gappy[3, 1] = 0.0
    scaler = Scaler.fit([table(gappy, ("a", "b"))], [(0, 30)])
    gappy[-1, 0] = -1e60
    with pytest.raises(UserError, match=r"'a' holds -1e\+60, over 1e\+18 deviations from its mean"):
        as_line([table(gappy, ("a", "b"))], scaler)


def test_select_reorders_and_knows_what_it_does_not_know(gappy: np.ndarray):
    scaler = Scaler.fit([table(gappy, ("a", "b"))], [(0, 50)])
    chosen = scaler.select(["b"])
    assert chosen is not None
    assert chosen.mean.tolist() == [float(scaler.mean[1])]
    assert scaler.select(["a", "c"]) is None
