"""The simulated series: seeded, gappy, learnable, and in need of more than one map."""

import numpy as np
import pytest
import torch

from apps.timeseries.baselines import Ridge, repeat_last
from apps.timeseries.metrics import average, mse
from apps.timeseries.scaler import Scaler
from apps.timeseries.simulate import RULES, autoregression, simulate, switching
from apps.timeseries.splits import Part, ratio_borders
from apps.timeseries.windows import Windows, as_line

CONTEXT, HORIZON = 168, 24


def group_of(name: str) -> str:
    return name.rsplit("_", 1)[0]


def test_the_same_seed_gives_the_same_series_and_another_one_others():
    first, again, other = simulate(500, seed=3), simulate(500, seed=3), simulate(500, seed=4)
    np.testing.assert_array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values, equal_nan=True)


def test_names_tell_the_groups_and_the_index_is_hourly():
    table = simulate(500, per_group=2)
    assert [group_of(name) for name in table.names] == [group for group in RULES for _ in range(2)]
    assert table.frequency == "h"
    assert len(table.index) == len(table.values) == 500


def test_every_series_loses_the_share_asked_for():
    missing = np.isnan(simulate(4000, missing=0.05).values).mean(axis=0)
    assert ((missing >= 0.05) & (missing < 0.06)).all()
    assert not np.isnan(simulate(500, missing=0.0).values).any()


def test_autoregression_has_the_deviation_and_persistence_asked_for():
    path = autoregression(np.random.default_rng(0), 200_000, 0.9, 2.0)
    assert path.std() == pytest.approx(2.0, rel=0.05)
    assert np.corrcoef(path[1:], path[:-1])[0, 1] == pytest.approx(0.9, abs=0.01)


def test_regimes_last_as_long_as_asked_for():
    path = switching(np.random.default_rng(0), 200_000, stay=50)
    assert set(path) == {0, 1}
    assert (np.diff(path) != 0).mean() == pytest.approx(1 / 50, rel=0.1)


def test_one_linear_map_for_all_is_clearly_worse_than_one_for_each_group():
    table = simulate(4000)
    borders = ratio_borders(4000)
    line = as_line([table], Scaler.fit([table], [(0, borders.train)]))

    def windows(part: Part, groups: set[str]) -> Windows:
        span = borders.span(part, CONTEXT)
        spans = [span if group_of(name) in groups else (0, 0) for name in table.names]
        return Windows(line, spans, CONTEXT, HORIZON)

    def fit(groups: set[str]) -> Ridge:
        return Ridge.fit(windows("train", groups), windows("validation", groups))

    pooled, errors = fit(set(RULES)), {"pooled": [], "own": [], "last": []}
    for group in RULES:
        batch = windows("test", {group}).__getitems__(torch.arange(len(windows("test", {group}))))
        context, mask, target, known = (
            batch[k] for k in ("context", "context_mask", "target", "target_mask")
        )
        errors["pooled"].append(average(mse(pooled(context, mask), target, known)))
        errors["own"].append(average(mse(fit({group})(context, mask), target, known)))
        errors["last"].append(average(mse(repeat_last(context, mask, HORIZON), target, known)))
    pooled_error, own_error, last_error = (torch.stack(values).mean() for values in errors.values())
    assert pooled_error > 1.3 * own_error
    assert last_error > 2 * own_error
