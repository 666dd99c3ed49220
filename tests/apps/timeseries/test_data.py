"""The data module: parts, scale, batches, checkpoints, prediction."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from apps.common.errors import UserError
from apps.timeseries.data import Data
from apps.timeseries.tables import read_tables

CONTEXT, HORIZON = 24, 12


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(3, 2, (400, 3)).cumsum(0), columns=["a", "b", "c"])
    frame.iloc[50:60, 1] = np.nan
    frame.insert(0, "date", pd.date_range("2024-01-01", periods=400, freq="h"))
    frame.to_csv(tmp_path / "wide.csv", index=False)
    return tmp_path / "wide.csv"


@pytest.fixture
def long(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    parts = []
    for name, rows in (("x", 300), ("y", 200), ("short", 20)):
        dates = pd.date_range("2024-01-01", periods=rows, freq="D")
        parts.append(pd.DataFrame({"id": name, "date": dates, "value": rng.normal(size=rows).cumsum()}))
    pd.concat(parts).to_csv(tmp_path / "long.csv", index=False)
    return tmp_path / "long.csv"


def ready(path: Path | None = None, **options) -> Data:
    data = Data(path, context=CONTEXT, horizon=HORIZON, **options)
    data.setup()
    return data


def windows_seen(loader) -> list[tuple[int, int]]:
    return [
        pair
        for batch in loader
        for pair in zip(batch["channel"].tolist(), batch["start"].tolist(), strict=True)
    ]


def test_parts_have_the_rows_of_the_split(wide: Path):
    data = ready(wide)
    train, validation, test = (data.windows(part) for part in ("train", "validation", "test"))
    assert (int(train.start.min()), int(train.start.max())) == (0, 280 - CONTEXT - HORIZON)
    assert (int(validation.start.min()), int(validation.start.max())) == (
        280 - CONTEXT,
        320 - CONTEXT - HORIZON,
    )
    assert (int(test.start.min()), int(test.start.max())) == (320 - CONTEXT, 400 - CONTEXT - HORIZON)
    assert len(test) == 3 * (400 - 320 - HORIZON + 1)


def test_no_target_is_in_two_parts(wide: Path):
    data = ready(wide)
    targets = {
        part: {int(s) + CONTEXT + h for s in data.windows(part).start for h in range(HORIZON)}
        for part in ("train", "validation", "test")
    }
    assert not targets["train"] & targets["validation"]
    assert not targets["validation"] & targets["test"]
    assert targets["validation"] | targets["test"] == set(range(280, 400))


def test_the_scale_is_that_of_training_rows(wide: Path):
    training = pd.read_csv(wide).drop(columns="date").iloc[:280]
    data = ready(wide)
    np.testing.assert_allclose(data.scaler.mean, training.mean())
    np.testing.assert_allclose(data.scaler.std, training.std(ddof=0))


def test_restored_windows_are_rows_of_the_file(wide: Path):
    frame = pd.read_csv(wide).drop(columns="date").to_numpy()
    data = ready(wide)
    (loader,) = data.test_dataloader()
    for batch in loader:
        values = data.restore(batch["target"], batch["channel"])
        for row, (channel, start) in enumerate(zip(batch["channel"], batch["start"], strict=True)):
            expected = frame[start + CONTEXT : start + CONTEXT + HORIZON, channel]
            np.testing.assert_allclose(values[row], expected, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_evaluation_sees_every_window_once_the_last_partial_batch_too(wide: Path, batch_size: int):
    data = ready(wide, batch_size=batch_size)
    for part, loaders in (("validation", data.val_dataloader()), ("test", data.test_dataloader())):
        windows = data.windows(part)
        expected = list(zip(windows.channel.tolist(), windows.start.tolist(), strict=True))
        assert [windows_seen(loader) for loader in loaders] == [expected]


def test_each_horizon_is_evaluated_on_all_windows_that_have_room_for_it(wide: Path):
    data, other = ready(wide, horizons=[HORIZON, 2]), ready(wide)
    for part in ("validation", "test"):
        loaders = {"validation": Data.val_dataloader, "test": Data.test_dataloader}[part]
        short, long = loaders(data)
        assert windows_seen(long) == windows_seen(loaders(other)[0])
        assert {batch["target"].shape[1] for batch in short} == {2}
        begin, end = data.borders[0].span(part, CONTEXT)
        starts = list(range(begin, end - CONTEXT - 2 + 1))
        assert windows_seen(short) == [(channel, start) for channel in range(3) for start in starts]
        assert len(windows_seen(short)) == len(windows_seen(long)) + 3 * (HORIZON - 2)


@pytest.mark.parametrize("horizons", [[0], [HORIZON + 1], [2, -5]])
def test_horizons_beyond_the_data_are_refused(wide: Path, horizons: list[int]):
    with pytest.raises(UserError, match=rf"data.horizons .* must lie between 1 and data.horizon, {HORIZON}"):
        Data(wide, horizon=HORIZON, horizons=horizons)


def test_validation_may_skip_windows_and_test_does_not(wide: Path):
    dense, sparse = ready(wide), ready(wide, validation_stride=5)
    assert set(sparse.windows("validation").start.tolist()) == set(range(256, 285, 5))
    assert len(sparse.windows("test")) == len(dense.windows("test"))


def test_an_epoch_of_training_sees_every_window_once_in_an_order_of_its_own(wide: Path):
    loader = ready(wide, batch_size=50, seed=1).train_dataloader()
    first = windows_seen(loader)
    loader.sampler.set_epoch(1)
    second = windows_seen(loader)
    assert first != second
    assert sorted(first) == sorted(second)
    assert len(set(first)) == len(first) == len(ready(wide).windows("train"))
    assert windows_seen(ready(wide, batch_size=50, seed=1).train_dataloader()) == first
    assert windows_seen(ready(wide, batch_size=50, seed=2).train_dataloader()) != first


def test_a_sample_of_windows_is_a_function_of_seed_and_epoch(wide: Path):
    def epochs(seed: int) -> list[list[tuple[int, int]]]:
        loader = ready(wide, batch_size=50, seed=seed, max_windows_per_epoch=120).train_dataloader()
        seen = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            assert len(loader) == 3
            seen.append(windows_seen(loader))
        return seen

    first, second = epochs(0)
    assert len(set(first)) == len(set(second)) == 120
    assert set(first) != set(second)
    assert epochs(0) == [first, second]
    assert epochs(1)[0] != first


def test_series_of_a_long_file_keep_their_own_lengths_and_splits(long: Path):
    with pytest.warns(UserWarning, match="1 of 3 series are too short"):
        data = ready(long, id_column="id", value_column="value")
    assert data.names == ("x", "y")
    test = data.windows("test")
    assert int(test.start[test.channel == 0].max()) == 300 - CONTEXT - HORIZON
    assert int(test.start[test.channel == 1].max()) == 200 - CONTEXT - HORIZON
    assert data.season == 7


def test_naive_error_is_that_of_scaled_training_rows(wide: Path):
    data = ready(wide)
    training = pd.read_csv(wide).drop(columns="date").iloc[:280]
    expected = training.diff(24).abs().mean() / training.std(ddof=0)
    np.testing.assert_allclose(data.naive_error(), expected, rtol=1e-5)


def test_without_path_and_name_series_are_simulated():
    data = ready(rows=600)
    assert data.names[0] == "demand_1"
    assert len(data.names) == 12
    assert data.frequency == "h"
    assert not torch.cat([batch["target_mask"] for batch in data.test_dataloader()[0]]).all()


def test_a_state_holds_what_prediction_needs_and_survives_a_safe_load(wide: Path, tmp_path: Path):
    data = ready(wide)
    torch.save(data.state_dict(), tmp_path / "state.pt")
    wide.rename(tmp_path / "moved.csv")
    again = Data.from_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (again.context, again.horizon, again.season) == (CONTEXT, HORIZON, 24)
    assert again.names == data.names
    values, channel = torch.randn(4, HORIZON), torch.tensor([2, 0, 1, 1])
    assert torch.equal(again.restore(values, channel), data.restore(values, channel))


def test_the_scale_of_a_checkpoint_goes_before_that_of_changed_rows(wide: Path):
    data = ready(wide)
    frame = pd.read_csv(wide)
    frame[["a", "b", "c"]] *= 10
    frame.to_csv(wide, index=False)
    for loaded_first in (True, False):
        other = Data(wide, context=CONTEXT, horizon=HORIZON)
        steps = [other.setup, lambda other=other: other.load_state_dict(data.state_dict())]
        for step in reversed(steps) if loaded_first else steps:
            step()
        assert torch.equal(other.scaler.mean, data.scaler.mean)
        assert torch.equal(other.scaler.std, data.scaler.std)


def test_the_scale_of_a_checkpoint_is_left_aside_for_other_series(wide: Path, long: Path):
    other = Data(long, context=CONTEXT, horizon=HORIZON, id_column="id", value_column="value", columns=["x"])
    other.load_state_dict(ready(wide).state_dict())
    other.setup()
    assert other.names == ("x",)
    assert other.frequency == "D"


def test_prediction_takes_the_last_context_of_the_series_trained_on(wide: Path):
    trained = Data.from_state(ready(wide).state_dict())
    frame = pd.read_csv(wide)[["date", "c", "a"]]
    frame.to_csv(wide, index=False)
    latest = trained.prediction_windows(read_tables(wide))
    (batch,) = latest.windows.batches(10)
    assert latest.scaler.names == ("c", "a")
    assert batch["target"].shape == (2, 0)
    assert batch["hour"].tolist() == [15, 15]
    units = latest.restore(batch["context"], batch["channel"])
    np.testing.assert_allclose(units, frame[["c", "a"]].to_numpy()[-CONTEXT:].T, rtol=1e-4)
    assert torch.equal(latest.scaler.mean, trained.scaler.mean[[2, 0]])


def test_prediction_scales_unknown_series_by_their_own_context(wide: Path, long: Path):
    trained = Data.from_state(ready(wide).state_dict())
    tables = read_tables(long, id_column="id", value_column="value", columns=["y", "x"])
    latest = trained.prediction_windows(tables)
    (batch,) = latest.windows.batches(10)
    torch.testing.assert_close(batch["context"].mean(dim=1), torch.zeros(2), atol=1e-5, rtol=0)
    units = latest.restore(batch["context"], batch["channel"])
    np.testing.assert_allclose(units[0], tables[0].values[-CONTEXT:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(units[1], tables[1].values[-CONTEXT:, 0], rtol=1e-4, atol=1e-5)


def test_prediction_takes_what_a_short_series_lacks_as_missing(wide: Path, long: Path):
    trained = Data.from_state(ready(wide).state_dict())
    tables = read_tables(long, id_column="id", value_column="value")
    latest = trained.prediction_windows(tables)
    (batch,) = latest.windows.batches(10)
    short = latest.scaler.names.index("short")
    assert batch["context_mask"][short].tolist() == [False] * 4 + [True] * 20
    units = latest.restore(batch["context"], batch["channel"])[short, 4:]
    np.testing.assert_allclose(units, tables[short].values[:, 0], rtol=1e-4, atol=1e-5)
    assert latest.tables[short].future(2).equals(tables[short].future(2))


def test_prediction_refuses_a_silent_series(wide: Path):
    trained = Data.from_state(ready(wide).state_dict())
    frame = pd.read_csv(wide)
    frame.loc[frame.index[-CONTEXT:], "b"] = np.nan
    frame.to_csv(wide, index=False)
    with pytest.raises(UserError, match=r"wide\.csv: 'b' has no value in rows 377 to 400"):
        trained.prediction_windows(read_tables(wide))


def test_a_file_that_is_too_short_says_how_many_rows_are_needed(wide: Path):
    data = Data(wide, context=300, horizon=96)
    with pytest.raises(
        UserError, match=r"wide\.csv: has 400 rows, .* context 300 and horizon 96 need \d+ .*: add rows"
    ):
        data.setup()


def test_a_part_without_any_value_is_refused(wide: Path):
    frame = pd.read_csv(wide)
    frame.loc[280:319, ["a", "b", "c"]] = np.nan
    frame.to_csv(wide, index=False)
    with pytest.raises(UserError, match=r"wide\.csv: no validation row has a value"):
        ready(wide).val_dataloader()


def test_options_that_do_not_go_together(wide: Path):
    with pytest.raises(UserError, match=r"both path .* and name ETTh1 were given: keep one of the two"):
        Data(wide, name="ETTh1")
    with pytest.raises(UserError, match="must be 1 or more: raise them"):
        Data(horizon=0)
    for wrong in ({"earlier": -1}, {"max_windows_per_epoch": 0}):
        with pytest.raises(UserError, match="earlier must be 0 or more, and max_windows_per_epoch 1 or more"):
            Data(**wrong)
    data = Data(wide, columns=["a", "a"])
    with pytest.raises(UserError, match="column 'a' is named twice"):
        data.setup()


def test_an_unknown_set_is_refused_with_the_names_of_the_known_ones():
    for step in (Data(name="ETTh9").prepare_data, Data(name="ETTh9").setup):
        with pytest.raises(UserError, match=r"ETTh9.*ETTh1, ETTh2, ETTm1"):
            step()


def test_the_scale_is_unknown_before_setup():
    with pytest.raises(RuntimeError, match="call setup"):
        _ = Data().scaler


def test_a_second_setup_reads_nothing_again(wide: Path):
    data = ready(wide)
    wide.unlink()
    data.setup("test")
    assert len(data.windows("test"))


def test_joint_batches_hold_all_series_of_a_start(wide: Path):
    data = ready(wide, joint=True, batch_size=7)
    for loader in (data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()):
        batch = next(iter(loader))
        assert batch["channel"].tolist() == [0, 1, 2] * 2
        assert batch["start"].tolist() == [s for s in batch["start"][::3].tolist() for _ in range(3)]
        assert batch["group"].tolist() == [g for g in batch["group"][::3].tolist() for _ in range(3)]
        assert batch["group"][0] != batch["group"][3]


def test_joint_training_draws_as_many_windows_an_epoch(wide: Path):
    loader = ready(wide, joint=True, batch_size=6, max_windows_per_epoch=30).train_dataloader()
    assert [len(batch["start"]) for batch in loader] == [6] * 5


def test_joint_is_kept_in_a_checkpoint_and_in_prediction(wide: Path):
    rebuilt = Data.from_state(ready(wide, joint=True).state_dict())
    (batch,) = rebuilt.prediction_windows(read_tables(wide)).windows.batches(10)
    assert batch["group"].tolist() == [0, 0, 0]
    alone = Data.from_state(ready(wide).state_dict())
    (batch,) = alone.prediction_windows(read_tables(wide)).windows.batches(10)
    assert batch["group"].tolist() == [0, 1, 2]
