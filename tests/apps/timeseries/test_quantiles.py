"""Quantiles of a probabilistic run: measured by evaluate, written by predict, drawn in the report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from apps.common.errors import UserError
from apps.common.main import main
from apps.timeseries.networks import DistributionBesideRidge, DLinear, GaussianRidge, MoiraiMoE, QuantileHead
from apps.timeseries.quantiles import MEASURED, known_levels, levels_for, spread
from apps.timeseries.simulate import simulate

CONFIG = """
seed_everything: 0
trainer: {max_epochs: 1, enable_progress_bar: false, accelerator: cpu}
model:
  network: {class_path: apps.timeseries.networks.NAME, init_args: {context: 48, horizon: 24}}
data:
  context: 48
  horizon: 24
  horizons: [8, 24]
  batch_size: 32
  max_windows_per_epoch: 256
  validation_stride: 20
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    series = simulate(900, per_group=1, missing=0.01)
    frame = pd.DataFrame(series.values, columns=list(series.names))
    frame.insert(0, "date", series.index)
    file = tmp_path_factory.mktemp("data") / "mine.csv"
    frame.to_csv(file, index=False)
    return file


def trained(name: str, table: Path, folder: Path) -> Path:
    config = folder / "small.yaml"
    config.write_text(CONFIG.replace("NAME", name), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLEGIUM_RUNS", str(folder))
        assert main(["timeseries", "fit", "--config", str(config), "--data.path", str(table)]) == 0
    return folder / "timeseries" / "small" / "1"


@pytest.fixture(scope="module")
def sure(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("GaussianRidge", table, tmp_path_factory.mktemp("sure"))


@pytest.fixture(scope="module")
def points(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("DLinear", table, tmp_path_factory.mktemp("points"))


def evaluated(run: Path, out: Path) -> dict[str, dict[str, float]]:
    assert main(["timeseries", "evaluate", "--run", str(run), "--out", str(out)]) == 0
    found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    quantiles = found.get("quantiles", [{}] * len(found["rows"]))
    return {row["slice"]: row | more for row, more in zip(found["rows"], quantiles, strict=True)}


def test_evaluate_tells_how_sure_a_probabilistic_run_is(
    sure: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = evaluated(sure, tmp_path)
    series = list(pd.read_csv(table).columns[1:])
    assert list(rows)[:2] == ["all", "steps 1-6"]
    assert list(rows)[5:] == ["horizon 8", *series]
    whole = rows["all"]
    assert 0 < whole["crps"] < whole["mae"]  # a fair spread costs less than none
    assert whole["msis_95"] > 0
    assert 0.3 < whole["in_50"] < whole["in_90"] <= 1
    assert whole["crps"] == pytest.approx(np.mean([rows[f"steps {s}"]["crps"] for s in quarters()]), rel=0.02)
    assert "Quantiles: " in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{whole['crps']:.4g}" in page
    assert "The bands are to hold half and nine tenths of the truth" in page


def quarters() -> list[str]:
    return ["1-6", "7-12", "13-18", "19-24"]


def test_evaluate_says_nothing_of_quantiles_where_there_are_none(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = evaluated(points, tmp_path)
    assert set(rows["all"]) == {"slice", "windows", "mse", "mae", "mase", "smape"}
    assert "uantiles" not in capsys.readouterr().out
    assert "The bands" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def predicted(run: Path, file: Path, out: Path, *more: str) -> pd.DataFrame:
    options = ["--input", str(file), "--out", str(out), "--run", str(run)]
    assert main(["timeseries", "predict", *options, *more]) == 0
    return pd.read_csv(out)


def test_predict_writes_quantiles_beside_each_series(sure: Path, table: Path, tmp_path: Path) -> None:
    frame = predicted(sure, table, tmp_path / "next.csv", "--levels", "0.9", "0.1", "0.025")
    names = list(pd.read_csv(table).columns[1:])
    wanted = [f"{name}{end}" for name in names for end in ("", "_q2.5", "_q10", "_q90")]
    assert list(frame.columns) == ["date", *wanted]
    for name in names:
        lowest, low, high = (frame[f"{name}_{end}"] for end in ("q2.5", "q10", "q90"))
        assert (lowest < low).all()
        assert (low < frame[name]).all()
        assert (frame[name] < high).all()
        # of a normal distribution these quantiles lie 1.95996 and 1.28155 deviations off, in any unit
        np.testing.assert_allclose((frame[name] - lowest) / (frame[name] - low), 1.95996 / 1.28155, rtol=1e-3)


def test_predict_writes_the_usual_quantiles_of_a_long_file(sure: Path, table: Path, tmp_path: Path) -> None:
    long = pd.read_csv(table).melt("date", var_name="store", value_name="sales").dropna()
    long.to_csv(tmp_path / "long.csv", index=False)
    names = ["--id_column", "store", "--value_column", "sales"]
    frame = predicted(sure, tmp_path / "long.csv", tmp_path / "next.csv", *names)
    assert list(frame.columns) == ["store", "date", "sales", "sales_q10", "sales_q50", "sales_q90"]
    np.testing.assert_allclose(frame["sales_q50"], frame["sales"], rtol=1e-4, atol=1e-4)
    wide = predicted(sure, table, tmp_path / "wide.csv", "--levels", "0.9")
    for store, rows in frame.groupby("store"):
        np.testing.assert_allclose(rows["sales_q90"], wide[f"{store}_q90"], rtol=1e-4, atol=1e-4)


def test_predict_of_points_has_no_more_columns_and_refuses_levels(
    points: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = predicted(points, table, tmp_path / "next.csv")
    assert list(frame.columns) == list(pd.read_csv(table).columns)
    options = ["--input", str(table), "--out", str(tmp_path / "other.csv"), "--run", str(points)]
    assert main(["timeseries", "predict", *options, "--levels", "0.5"]) == 2
    assert "DLinear forecasts points and knows no quantiles" in capsys.readouterr().err
    assert not (tmp_path / "other.csv").exists()


def test_predict_does_not_write_a_column_twice(
    sure: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(table)
    first, second = frame.columns[1:3]
    frame.rename(columns={second: f"{first}_q10"}).to_csv(tmp_path / "odd.csv", index=False)
    options = ["--input", str(tmp_path / "odd.csv"), "--out", str(tmp_path / "next.csv"), "--run", str(sure)]
    assert main(["timeseries", "predict", *options]) == 2
    assert f"two columns of the forecasts would be '{first}_q10'" in capsys.readouterr().err


@pytest.mark.parametrize("levels", [[0.0, 0.5], [0.5, 1.0], [0.1, 0.1], [float("nan")], []])
def test_levels_that_are_none_get_one_sentence(levels: list[float]) -> None:
    with pytest.raises(
        UserError, match=r"^levels: .*: give numbers between 0 and 1, each once, such as 0\.1 0"
    ):
        levels_for(GaussianRidge(8, 4), levels)


def test_levels_that_a_head_does_not_know_are_refused() -> None:
    network = MoiraiMoE(dim=16, depth=1, heads=2, patch=12, head=QuantileHead)
    assert levels_for(network, [0.95, 0.05]) == [0.05, 0.95]
    beside = DistributionBesideRidge(network, 48, 24)
    for known in (network, beside):
        with pytest.raises(UserError, match=r"levels: 0.01 0.5: this network knows those from 0.05 to 0.95"):
            levels_for(known, [0.5, 0.01])
    assert levels_for(GaussianRidge(48, 24), [0.001]) == [0.001]


def test_levels_are_put_in_order() -> None:
    assert levels_for(GaussianRidge(8, 4), [0.9, 0.2]) == [0.2, 0.9]
    assert levels_for(DLinear(8, 4), None) == []


def test_spread_finds_the_bounds_of_its_intervals() -> None:
    """Quantiles of the even distribution between 0 and 1 are their levels."""
    found = MEASURED.expand(1, 8, -1)
    target = torch.tensor([[0.02, 0.04, 0.06, 0.24, 0.26, 0.5, 0.94, 0.96]])
    batch = {"target": target, "target_mask": target > -1, "channel": torch.tensor([0])}
    measured = spread(found, batch, torch.tensor([0.5]), slice(None))
    assert measured["in_50"].item() == pytest.approx(2 / 8)
    assert measured["in_90"].item() == pytest.approx(5 / 8)
    assert measured["msis_95"].item() == pytest.approx((0.95 + 40 * 0.005 / 8) / 0.5)
    assert spread(found, batch, torch.tensor([0.5]), slice(3, 6))["in_50"].item() == pytest.approx(2 / 3)


def test_the_crps_is_that_of_the_distribution() -> None:
    """Of a standard normal one at z: z (2 F(z) - 1) + 2 f(z) - 1 / sqrt(pi), Gneiting and Raftery (2007)."""
    target = torch.linspace(-2, 2, 9)[None]
    found = torch.special.ndtri(MEASURED).expand(1, 9, -1)
    batch = {"target": target, "target_mask": target > -9, "channel": torch.tensor([0])}
    normal = torch.distributions.Normal(0, 1)
    exact = target * (2 * normal.cdf(target) - 1) + 2 * normal.log_prob(target).exp() - torch.pi**-0.5
    measured = spread(found, batch, torch.tensor([1.0]), slice(None))["crps"]
    assert measured.item() == pytest.approx(exact.mean().item(), rel=0.005)


def test_intervals_beyond_what_a_network_knows_are_left_out() -> None:
    target = torch.rand(2, 3)
    batch = {"target": target, "target_mask": target > -1, "channel": torch.tensor([0, 0])}
    found = MEASURED.expand(2, 3, -1)
    head = known_levels(MoiraiMoE(dim=16, depth=1, heads=2, patch=12, head=QuantileHead))
    assert set(spread(found, batch, torch.ones(1), slice(None), head)) == {"crps", "in_50", "in_90"}
    assert known_levels(GaussianRidge(48, 24)) == (0.0, 1.0)
