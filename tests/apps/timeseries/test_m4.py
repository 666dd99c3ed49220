"""M4's benchmark and protocol: by hand, against statsmodels, and on the real files as published."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.common.catalogue import fetch
from apps.common.compare.arms import check_outcome
from apps.common.controls import KINDS
from apps.common.errors import UserError
from apps.common.main import main
from apps.timeseries import compare, m4
from apps.timeseries.data import Data
from apps.timeseries.m4 import BENCHMARKS, PROTOCOLS, Protocol, benchmark, compared, targets
from apps.timeseries.naive2 import is_seasonal, naive2, seasonal_factors
from apps.timeseries.tables import Table, read_tables

pytest.importorskip("statsforecast", reason="the extra `peers` is not installed")

WAVE = np.array([1.0, 3.0, 2.0, 2.0])


def test_naive2_of_a_series_without_season_repeats_its_last_value():
    assert naive2(np.arange(1.0, 30.0), 3, 1).tolist() == [29.0, 29.0, 29.0]
    noise = np.random.default_rng(0).uniform(1, 2, 60)
    assert naive2(noise, 2, 4).tolist() == [noise[-1]] * 2


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_naive2_goes_on_with_the_season_wherever_the_series_ends(cut: int):
    series = np.tile(WAVE, 10)[: 40 - cut]
    expected = np.tile(WAVE, 13)[40 - cut :][:6]
    np.testing.assert_allclose(naive2(series, 6, 4), expected)


def test_factors_are_the_season_over_its_mean():
    np.testing.assert_allclose(seasonal_factors(np.tile(WAVE, 10), 4), WAVE / 2)


@pytest.mark.filterwarnings("ignore:acf currently returns")
def test_the_seasonal_test_equals_that_of_statsmodels():
    """M4's limit is Bartlett's formula, which statsmodels uses for its intervals."""
    from statsmodels.tsa.stattools import acf

    rng = np.random.default_rng(0)
    found = []
    for strength in np.linspace(0, 0.6, 30):
        series = rng.standard_normal(60) + strength * np.tile(WAVE, 15)
        correlation, interval = acf(series, nlags=4, alpha=0.1, bartlett_confint=True)
        limit = (interval[4, 1] - correlation[4]) * 1.645 / 1.6448536
        found.append(is_seasonal(series, 4))
        assert found[-1] == (abs(correlation[4]) > limit)
    assert True in found
    assert False in found


def test_short_and_constant_series_have_no_season():
    assert not is_seasonal(np.tile(WAVE, 3)[:11], 4)
    assert is_seasonal(np.tile(WAVE, 3), 4) == is_seasonal(np.tile(WAVE, 3) * 7, 4)
    assert not is_seasonal(np.ones(40), 4)
    assert not is_seasonal(np.tile(WAVE, 10), 1)


def test_owa_by_hand():
    train = [np.array([1.0, 3.0, 2.0]), np.array([2.0, 2.0, 6.0])]  # naive errors 1.5 and 2
    target = torch.tensor([[2.0, 2.0], [6.0, 6.0]]).double()
    forecasts = {
        "Naive2": torch.tensor([[2.0, 3.0], [6.0, 6.0]]),
        "other": torch.tensor([[2.0, 2.0], [4.0, 6.0]]),
    }
    base, other = compared(forecasts, train, target, 1)
    assert base["smape"] == pytest.approx((200 * 1 / 5 / 2 + 0) / 2)
    assert base["mase"] == pytest.approx((0.5 / 1.5) / 2)
    assert base["owa"] == pytest.approx(1)
    assert other["smape"] == pytest.approx((200 * 2 / 10 / 2) / 2)
    assert other["mase"] == pytest.approx((1 / 2) / 2)
    assert other["owa"] == pytest.approx((10 / 10 + 0.25 / (1 / 6)) / 2)


def test_benchmarks_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    rng = np.random.default_rng(0)
    train = [np.tile(WAVE, 10) * 10 + rng.standard_normal(40) for _ in range(2)]
    first = {kind: benchmark(kind, train, Protocol(5, 4)) for kind in BENCHMARKS}
    assert {tuple(each.shape) for each in first.values()} == {(2, 5)}
    np.testing.assert_allclose(first["SeasonalNaive"][0], [*train[0][-4:], train[0][-4]])
    for each in first.values():  # all of them see the season
        assert (each[:, 1] - each[:, 0]).min() > 10

    def again(name: str) -> None:
        raise AssertionError(f"{name} is loaded to forecast what is kept")

    monkeypatch.setattr(m4, "import_module", lambda name: None if name == "statsforecast" else again(name))
    second = {kind: benchmark(kind, train, Protocol(5, 4)) for kind in BENCHMARKS}
    assert all(torch.equal(second[name], first[name]) for name in first)


def test_benchmarks_without_statsforecast_tell_the_mend(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(m4, "import_module", missing)
    with pytest.raises(UserError, match="make peers"):
        benchmark("AutoETS", [np.ones(9)], Protocol(5, 4))


CONFIG = """
seed_everything: 0
trainer: {max_steps: 4, enable_progress_bar: false, accelerator: cpu}
model:
  network: {class_path: apps.timeseries.networks.DLinear, init_args: {context: 26, horizon: 13}}
data: {name: m4_weekly, context: 26, horizon: 13, batch_size: 32, max_windows_per_epoch: 128}
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue whose M4 sets are three short series; runs and data in a folder of their own."""
    rng = np.random.default_rng(0)
    walks = [100 + rng.standard_normal(rows).cumsum() for rows in (85, 95, 115)]
    for name, part in (("m4_weekly", slice(None, -13)), ("m4_weekly_test", slice(-13, None))):
        rows = [[f"W{i}", *walk[part]] for i, walk in enumerate(walks)]
        longest = max(map(len, rows))
        lines = [",".join(map(str, row)) + "," * (longest - len(row)) for row in rows]
        head = ",".join(f"V{i}" for i in range(1, longest + 1))
        (tmp_path / f"{name}.csv").write_text("\n".join([head, *lines]) + "\n")
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "runs"))
    for module in ("apps.timeseries.data.fetch", "apps.timeseries.m4.fetch"):
        monkeypatch.setattr(module, lambda app, name: tmp_path / f"{name}.csv")
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


def test_a_run_is_measured_beside_the_benchmarks(small: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["timeseries", "fit", "--config", str(small / "tiny.yaml")]) == 0
    assert main(["timeseries", "m4"]) == 0
    found = json.loads((small / "runs/timeseries/tiny/1/m4.json").read_text())
    rows = {row["model"]: row for row in found["rows"]}
    assert list(rows) == ["tiny", "Naive2", "SeasonalNaive", "AutoTheta", "AutoETS"]
    assert rows["SeasonalNaive"] == {**rows["Naive2"], "model": "SeasonalNaive"}  # a season of one week
    assert rows["tiny"]["owa"] > 0
    assert "3 series, 13 steps" in capsys.readouterr().out
    assert main(["timeseries", "evaluate"]) == 0
    assert main(["timeseries", "evaluate", "--split", "test"]) == 2
    assert "leaves no row to test" in capsys.readouterr().err


def test_forecasts_begin_where_the_training_rows_end(small: Path):
    data = Data(name="m4_weekly", context=26, horizon=13)
    data.setup()
    latest = data.prediction_windows(data.tables)
    (batch,) = latest.windows.batches(10)
    seen = latest.restore(batch["context"], latest.windows.channel)
    for row, table in zip(seen, data.tables, strict=True):
        np.testing.assert_allclose(row, table.values[-26:, 0], rtol=1e-5)
    validated = data.windows("validation")
    assert len(validated) == 3
    for window, table in zip(validated.__getitems__([0, 1, 2])["target"], data.tables, strict=True):
        channel = torch.tensor([data.names.index(table.names[0])])
        np.testing.assert_allclose(data.restore(window[None], channel)[0], table.values[-13:, 0], rtol=1e-5)
    last = max(int(data.windows("train").start[data.windows("train").channel == 0].max()), 0)
    assert last + 26 + 13 == len(data.tables[0].values) - 13


def test_a_run_of_other_data_is_told_to_train(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    other = CONFIG.replace("name: m4_weekly", "rows: 900")
    (small / "tiny.yaml").write_text(other)
    assert main(["timeseries", "fit", "--config", str(small / "tiny.yaml")]) == 0
    assert main(["timeseries", "m4"]) == 2
    assert "was not trained on an M4 set" in capsys.readouterr().err


def real(name: str) -> list[Table]:
    root = os.environ.get("COLLEGIUM_DATA")
    if not root or not list((Path(root) / "timeseries").glob(f"{name}_train.csv*")):
        pytest.skip(f"{name} is not below COLLEGIUM_DATA")
    return read_tables(fetch("timeseries", name), by_row=True)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "series", "lengths", "error", "scaled"),
    [
        ("m4_hourly", 414, (700, 960), 18.383, 2.395),
        ("m4_weekly", 359, (80, 2597), 9.161, 2.777),
    ],
)
def test_naive2_has_its_published_errors(
    name: str, series: int, lengths: tuple[int, int], error: float, scaled: float
):
    tables = real(name)
    rows = [len(table.values) for table in tables]
    assert (len(tables), min(rows), max(rows)) == (series, *lengths)
    train = [table.values[:, 0] for table in tables]
    forecasts = {"Naive2": torch.from_numpy(np.stack([naive2(each, *PROTOCOLS[name]) for each in train]))}
    target = targets(name, [table.names[0] for table in tables])
    (row,) = compared(forecasts, train, target, PROTOCOLS[name].season)
    assert row["smape"] == pytest.approx(error, abs=5e-4)
    assert row["mase"] == pytest.approx(scaled, abs=5e-4)


@pytest.mark.data
def test_some_weekly_test_rows_stand_in_another_series():
    """What the README warns of."""
    tables = real("m4_weekly")
    names = [table.names[0] for table in tables]
    wanted = {
        tuple(rows): name for name, rows in zip(names, targets("m4_weekly", names).tolist(), strict=True)
    }
    found = {
        wanted[rows]
        for name, table in zip(names, tables, strict=True)
        for rows in map(tuple, np.lib.stride_tricks.sliding_window_view(table.values[:, 0], 13).tolist())
        if wanted.get(rows, name) != name
    }
    assert 0 < len(found) < 10


def test_the_comparison_measures_as_the_command_does(small: Path):
    budget = {
        "protocol": "m4",
        "context": 26,
        "horizons": [13],
        "routed": {"default": "ridge_moe"},
        "networks": {
            "ridge_moe": {
                "batch_size": 32,
                "balance": {},
                "mixture": {"num_experts": 2, "hidden": 4},
                "options": {"dim": 4, "share": 0.0},
            }
        },
        "epochs": 1,
        "windows_per_epoch": 64,
        "warmup_steps": 0,
        "validation_stride": 1,
        "trials": {"ridge_moe": [{"learning_rate": 1e-3}]},
    }
    arms = {name: arm for name, arm in compare.arms(budget).items() if "_of_" not in name}
    assert set(arms) == {*KINDS, "ridge_moe", "naive2", "seasonal_naive", "auto_theta", "auto_ets"}
    measured = {name: arms[name].fit("m4_weekly", arms[name].trials[0], 0).test() for name in arms}
    for outcome in measured.values():
        check_outcome(outcome)
        assert {place: len(units) for place, units in outcome.units.items()} == {
            ("all", metric): 3 for metric in ("smape", "mase", "owa")
        }
    values = {name: {v.metric: v.value for v in outcome.values} for name, outcome in measured.items()}
    assert values["naive2"]["owa"] == pytest.approx(1.0)
    assert values["routed"] == values["ridge_moe"]
    data = Data(name="m4_weekly", context=26, horizon=13)
    data.setup()
    train = [table.values[:, 0] for table in data.tables]
    told = {kind: benchmark(kind, train, PROTOCOLS["m4_weekly"]) for kind in BENCHMARKS}
    rows = compared(told, train, targets("m4_weekly", data.names), 1)
    for arm, row in zip(("naive2", "seasonal_naive", "auto_theta", "auto_ets"), rows, strict=True):
        assert values[arm] == pytest.approx({key: row[key] for key in ("smape", "mase", "owa")})
