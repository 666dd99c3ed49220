"""Windows against slices taken one by one."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apps.timeseries.scaler import Scaler
from apps.timeseries.tables import Table
from apps.timeseries.windows import Groups, Windows, as_line, table_of_each


def make_tables(lengths: list[int], share_missing: float = 0.0, seed: int = 0) -> list[Table]:
    rng = np.random.default_rng(seed)
    tables = []
    for number, rows in enumerate(lengths):
        values = rng.normal(number, 1 + number, (rows, 1 + number % 2))
        values[1:][rng.random(values[1:].shape) < share_missing] = np.nan
        index = pd.date_range("2024-01-01 05:00", periods=rows, freq="h")
        tables.append(Table(values, index, tuple(f"{number}{c}" for c in range(values.shape[1])), "h"))
    return tables


def make(tables: list[Table], context: int, horizon: int, stride: int = 1) -> tuple[Windows, Scaler]:
    spans = [(0, len(table.values)) for table in tables]
    scaler = Scaler.fit(tables, spans)
    by_series = [span for table, span in zip(tables, spans, strict=True) for _ in table.names]
    return Windows(as_line(tables, scaler), by_series, context, horizon, stride), scaler


def brute_force(tables: list[Table], scaler: Scaler, context: int, horizon: int, stride: int):
    """Every window as (channel, start, scaled values with NaN, time of the context's end)."""
    channel = 0
    for table in tables:
        for column in table.values.T:
            scaled = (column - float(scaler.mean[channel])) / float(scaler.std[channel])
            for start in range(0, len(column) - context - horizon + 1, stride):
                values = scaled[start : start + context + horizon]
                if not np.isnan(values[context:]).all():
                    yield channel, start, values, table.index[start + context - 1]
            channel += 1


def test_windows_that_another_horizon_has_too_are_left_out():
    tables = make_tables([14, 20], 0.0)
    short, long = make(tables, 8, 2)[0], make(tables, 8, 5)[0]
    found = short.without(long)
    kept = set(zip(found.channel.tolist(), found.start.tolist(), strict=True))
    every = set(zip(short.channel.tolist(), short.start.tolist(), strict=True))
    assert kept == every - set(zip(long.channel.tolist(), long.start.tolist(), strict=True))
    assert len(kept) == 3 * 3  # of three series the last three starts
    batch = found.__getitems__(torch.arange(len(found)))
    assert batch["target"].shape == (9, 2)
    assert len(short.without(short)) == 0


def test_the_windows_of_a_group_come_with_it():
    windows = joint(make_tables([14, 20, 13]), 8, 3)
    rows = torch.tensor([9, 2, len(windows) - 1])
    batch, at = windows.groups_of(rows)
    chosen = windows.__getitems__(rows)
    assert torch.equal(batch["channel"][at], chosen["channel"])
    assert torch.equal(batch["context"][at], chosen["context"])
    expected = torch.isin(windows.group, windows.group[rows])
    assert torch.equal(batch["group"], windows.group[expected])


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(3, 30), min_size=1, max_size=4),
    context=st.integers(1, 8),
    horizon=st.integers(1, 6),
    stride=st.integers(1, 4),
    missing=st.sampled_from([0.0, 0.3, 0.8]),
)
def test_windows_equal_slices_and_never_cross_series(lengths, context, horizon, stride, missing):
    assume(sum(lengths) >= context + horizon)
    tables = make_tables(lengths, missing)
    windows, scaler = make(tables, context, horizon, stride)
    expected = list(brute_force(tables, scaler, context, horizon, stride))
    assert len(windows) == len(expected)
    for row, (channel, start, values, end) in enumerate(expected):
        item = windows[row]
        assert (int(item["channel"]), int(item["start"])) == (channel, start)
        assert (int(item["hour"]), int(item["weekday"])) == (end.hour, end.weekday())
        got = torch.cat([item["context"], item["target"]], dim=1).numpy().ravel()
        mask = torch.cat([item["context_mask"], item["target_mask"]], dim=1).numpy().ravel()
        np.testing.assert_array_equal(mask, ~np.isnan(values))
        np.testing.assert_allclose(got, np.nan_to_num(values), rtol=1e-5, atol=1e-6)


def test_one_fetch_gives_a_whole_batch_with_shapes_and_types_as_documented():
    windows, _ = make(make_tables([40, 30], 0.2), 8, 4)
    batch = windows.__getitems__([5, 0, 7])
    assert {name: (tuple(t.shape), t.dtype) for name, t in batch.items()} == {
        "context": ((3, 8), torch.float32),
        "context_mask": ((3, 8), torch.bool),
        "target": ((3, 4), torch.float32),
        "target_mask": ((3, 4), torch.bool),
        "channel": ((3,), torch.int64),
        "start": ((3,), torch.int64),
        "hour": ((3,), torch.int64),
        "weekday": ((3,), torch.int64),
        "group": ((3,), torch.int64),
    }
    for position, row in enumerate([5, 0, 7]):
        for name, values in windows[row].items():
            assert torch.equal(values[0], batch[name][position])


def test_missing_values_are_zero_under_the_mask():
    windows, _ = make(make_tables([60], 0.5), 8, 4)
    for batch in windows.batches(7):
        assert batch["context"][~batch["context_mask"]].eq(0).all()
        assert batch["target"][~batch["target_mask"]].eq(0).all()
        assert batch["target_mask"].any(dim=1).all()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_keep_the_last_partial_one(size: int):
    windows, _ = make(make_tables([40, 30]), 8, 4)
    starts = torch.cat([batch["start"] for batch in windows.batches(size)])
    assert torch.equal(starts, windows.start)


def test_changing_a_batch_leaves_the_data_alone():
    windows, _ = make(make_tables([40]), 8, 4)
    before = windows[3]["context"].clone()
    windows[3]["context"].zero_()
    assert torch.equal(windows[3]["context"], before)


def test_series_shorter_than_a_window_are_refused():
    with pytest.raises(ValueError, match="no window of 12 rows fits into 9 rows"):
        make(make_tables([9]), 8, 4)


def test_no_target_means_every_context_counts():
    tables = make_tables([12], 0.0)
    tables[0].values[6:] = np.nan
    windows, _ = make(tables, 4, 0)
    assert len(windows) == 9
    assert windows[8]["target"].shape == (1, 0)


def joint(tables: list[Table], context: int, horizon: int) -> Windows:
    spans = [(0, len(table.values)) for table in tables]
    scaler = Scaler.fit(tables, spans)
    owners = table_of_each(tables)
    by_series = [spans[table] for table in owners]
    return Windows(as_line(tables, scaler), by_series, context, horizon, tables=owners)


def test_joint_windows_are_the_same_ones_grouped_by_table_and_start():
    tables = make_tables([14, 20, 13, 16], 0.4)
    alone, together = make(tables, 8, 3)[0], joint(tables, 8, 3)
    keys = list(zip(together.channel.tolist(), together.start.tolist(), strict=True))
    assert sorted(keys) == list(zip(alone.channel.tolist(), alone.start.tolist(), strict=True))
    owner = table_of_each(tables)
    shared: dict[tuple[int, int], set[int]] = {}
    for (channel, start), group in zip(keys, together.group.tolist(), strict=True):
        shared.setdefault((owner[channel], start), set()).add(group)
    assert all(len(groups) == 1 for groups in shared.values())
    assert together.group.tolist() == sorted(together.group.tolist())
    assert int(together.group.max()) + 1 == len(shared)
    assert alone.group.tolist() == list(range(len(alone)))


def test_groups_are_read_whole_one_after_the_other():
    windows = joint(make_tables([14, 20, 13], 0.4), 8, 3)
    groups = Groups(windows)
    batch = groups.__getitems__([4, 0, 7])
    expected = [row for group in (4, 0, 7) for row in (windows.group == group).nonzero()[:, 0].tolist()]
    for name, values in windows.__getitems__(expected).items():
        assert torch.equal(batch[name], values)


def test_as_many_groups_as_hold_so_many_windows():
    table = Table(np.random.default_rng(0).normal(size=(20, 6)), pd.RangeIndex(20), tuple("abcdef"), None)
    groups = Groups(joint([table], 8, 3))
    assert (len(groups), groups.holding(18), groups.holding(20), groups.holding(2)) == (10, 3, 3, 1)
