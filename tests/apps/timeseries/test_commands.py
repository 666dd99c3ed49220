"""Train, evaluate and predict from the command line, on a user's own file."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from apps.common.main import main
from apps.timeseries.simulate import simulate
from tests.apps.common.helpers import checkpoint, differing_weights

ROOT = Path(__file__).parents[3]

CONFIG = """
seed_everything: 0
trainer: {max_epochs: 1, enable_progress_bar: false, accelerator: cpu}
model:
  network:
    class_path: apps.timeseries.networks.TimeMoE
    init_args:
      dim: 16
      depth: 1
      heads: 2
      patch: 8
      horizons: [8, 24]
      feed_forward: {class_path: apps.common.controls.MixtureFFN, init_args: {num_experts: 4, hidden: 16}}
data: {context: 48, horizon: 24, batch_size: 32, max_windows_per_epoch: 256, validation_stride: 20}
"""


JOINT = """
seed_everything: 0
trainer: {max_epochs: 1, enable_progress_bar: false, accelerator: cpu}
model:
  network:
    class_path: apps.timeseries.networks.DistributionBesideRidge
    init_args:
      context: 48
      horizon: 24
      horizons: [8, 24]
      network:
        class_path: apps.timeseries.networks.MoiraiMoE
        init_args:
          dim: 16
          depth: 1
          heads: 2
          patch: 8
          warm_start: true
          twin_steps: 2
          head: {class_path: apps.timeseries.networks.QuantileHead, init_args: {patches: 2}}
          feed_forward:
            class_path: apps.common.controls.MixtureFFN
            init_args:
              num_experts: 4
              hidden: 16
              router: {class_path: collegium.routers.TopK, init_args: {k: 2, gate: collegium.gates.Centroid}}
  balance: {}
data:
  context: 48
  horizon: 24
  horizons: [8, 24]
  batch_size: 32
  max_windows_per_epoch: 256
  validation_stride: 5
  joint: true
"""
"""Series that see one another, a network that is prepared, shares that are settled, quantiles."""


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    series = simulate(900, per_group=1, missing=0.01)
    frame = pd.DataFrame(series.values, columns=list(series.names))
    frame.insert(0, "date", series.index)
    return frame


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame) -> Path:
    """A run trained on a file that is gone afterwards."""
    folder = tmp_path_factory.mktemp("runs")
    file, config = folder / "mine.csv", folder / "small.yaml"
    table.to_csv(file, index=False)
    config.write_text(CONFIG, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLEGIUM_RUNS", str(folder))
        assert main(["timeseries", "fit", "--config", str(config), "--data.path", str(file)]) == 0
    file.unlink()
    return folder / "timeseries" / "small" / "1"


def test_a_run_leaves_what_the_readme_promises(run: Path) -> None:
    found = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.csv", "report.html", "checkpoints"} <= found
    page = (run / "report.html").read_text(encoding="utf-8")
    for title in (
        "Forecasts",
        "Error by step",
        "Who serves what",
        "What each expert adds",
        "Learning curves",
        "Experts",
    ):
        assert f">{title}<" in page
    assert "data:image/png;base64," in page
    assert "<script src" not in page


@pytest.mark.slow
@pytest.mark.parametrize("told", [CONFIG, JOINT], ids=["time_moe", "joint_moirai_ridge"])
def test_a_training_that_was_killed_ends_as_the_whole_one(
    told: str, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, config = tmp_path / "mine.csv", tmp_path / "small.yaml"
    table.to_csv(file, index=False)
    config.write_text(told, encoding="utf-8")
    fit = ["timeseries", "fit", "--config", str(config), "--data.path", str(file)]
    fit += ["--trainer.max_epochs=3", "--last_checkpoint.every_n_steps=1"]
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "whole"))
    assert main(fit) == 0
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "killed"))
    killed = tmp_path / "killed" / "timeseries" / "small" / "1"
    process = subprocess.Popen([sys.executable, "-m", "apps", *fit], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not (killed / "checkpoints" / "last.ckpt").is_file():
            assert process.poll() is None, "ended before its first checkpoint"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert (
        0
        < checkpoint(killed)["global_step"]
        < checkpoint(tmp_path / "whole" / "timeseries" / "small" / "1")["global_step"]
    )
    assert main(["timeseries", "fit", "--config", str(config), "--resume"]) == 0
    whole = tmp_path / "whole" / "timeseries" / "small" / "1"
    assert differing_weights(killed, whole) == []
    ways = [pd.read_csv(run / "metrics.csv") for run in (killed, whole)]
    pd.testing.assert_frame_equal(*ways, check_like=True)


def test_series_that_see_one_another_go_from_training_to_quantiles(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    file, config, out = tmp_path / "mine.csv", tmp_path / "small.yaml", tmp_path / "next.csv"
    table.to_csv(file, index=False)
    config.write_text(JOINT, encoding="utf-8")
    assert main(["timeseries", "fit", "--config", str(config), "--data.path", str(file)]) == 0
    run = tmp_path / "timeseries" / "small" / "1"
    shares = pd.read_csv(run / "metrics.csv")[["val/share_8", "val/share_24"]].dropna().to_numpy()
    assert len(shares)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert main(["timeseries", "evaluate"]) == 0
    rows = json.loads((run / "evaluation/validation/metrics.json").read_text(encoding="utf-8"))["quantiles"]
    assert all(row["crps"] > 0 and 0 <= row["in_90"] <= 1 for row in rows)
    page = (run / "evaluation/validation/report.html").read_text(encoding="utf-8")
    assert all(f">{title}<" in page for title in ("Forecasts", "Who serves what", "What each expert adds"))
    assert main(["timeseries", "predict", "--input", str(file), "--out", str(out)]) == 0
    told = pd.read_csv(out)
    for name in table.columns[1:]:
        assert (told[f"{name}_q10"] <= told[f"{name}_q50"]).all()
        assert (told[f"{name}_q50"] <= told[f"{name}_q90"]).all()


def test_predict_reads_a_series_from_each_row(
    run: Path,
    table: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    rows = table.drop(columns="date").interpolate(limit_direction="both").T.reset_index()
    rows.columns = [f"V{place}" for place in range(rows.shape[1])]
    file, config, out = tmp_path / "rows.csv", tmp_path / "small.yaml", tmp_path / "next.csv"
    rows.to_csv(file, index=False)
    config.write_text(CONFIG, encoding="utf-8")
    fit = [
        "--data.path",
        str(file),
        "--data.by_row",
        "true",
        "--data.frequency",
        "h",
        "--trainer.max_steps",
        "2",
    ]
    assert main(["timeseries", "fit", "--config", str(config), *fit]) == 0
    ask = ["timeseries", "predict", "--input", str(file), "--out", str(out)]
    assert main(ask) == 0
    by_row = pd.read_csv(out)
    assert list(by_row.columns) == ["series", "step", "value"]
    assert by_row.groupby("series").size().to_dict() == dict.fromkeys(table.columns[1:], 24)
    assert by_row["step"].min() == len(table)
    assert main([*ask, "--run", str(run), "--by_row", "true"]) == 0
    assert len(pd.read_csv(out)) == len(by_row)
    assert main([*ask, "--id_column", "V0"]) == 2
    assert "which has no `id_column`" in capsys.readouterr().err


def test_predict_tells_of_short_and_of_new_series(
    run: Path, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["--input", str(tmp_path / "new.csv"), "--out", str(tmp_path / "next.csv"), "--run", str(run)]
    for rows, notes in (
        (300, ["1 of 2 series were not in training"]),
        (20, ["2 of 2 series are shorter than"]),
    ):
        other = table[["date", "demand_1", table.columns[-1]]].iloc[:rows]
        other.rename(columns={"demand_1": "north"}).to_csv(tmp_path / "new.csv", index=False)
        assert main(["timeseries", "predict", *ask]) == 0
        told = capsys.readouterr().out
        assert all(note in told for note in notes)
        assert ("shorter" in told) is (rows == 20)


def test_predict_needs_the_checkpoint_alone(run: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    other = table.rename(columns={"demand_1": "north"}).iloc[:300]
    other.to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "next.csv"
    arguments = [
        "--input",
        str(tmp_path / "new.csv"),
        "--out",
        str(out),
        "--run",
        str(run),
        "--horizon",
        "30",
    ]
    assert main(["timeseries", "predict", *arguments]) == 0
    forecast = pd.read_csv(out, parse_dates=["date"])
    assert list(forecast.columns) == list(other.columns)
    assert len(forecast) == 30
    assert forecast["date"].iloc[0] == other["date"].iloc[-1] + pd.Timedelta("1h")
    level = forecast["north"].mean() - other["north"].mean()
    assert abs(level) < 4 * other["north"].std()
    assert np.isfinite(forecast.drop(columns="date").to_numpy()).all()


def test_predict_does_not_overwrite_its_input(
    run: Path, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.csv"
    table.iloc[:100].to_csv(file, index=False)
    before = file.read_bytes()
    arguments = ["--input", str(file), "--out", str(tmp_path / "." / "mine.csv"), "--run", str(run)]
    assert main(["timeseries", "predict", *arguments]) == 2
    assert "mine.csv is the input: name another file" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_predict_reads_and_writes_long_files(run: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    long = table.iloc[:200].melt("date", var_name="store", value_name="sales").dropna()
    long.to_csv(tmp_path / "long.csv", index=False)
    out = tmp_path / "next.csv"
    arguments = ["--input", str(tmp_path / "long.csv"), "--out", str(out), "--run", str(run)]
    assert main(["timeseries", "predict", *arguments, "--id_column", "store", "--value_column", "sales"]) == 0
    forecast = pd.read_csv(out)
    assert list(forecast.columns) == ["store", "date", "sales"]
    assert forecast.groupby("store").size().to_dict() == dict.fromkeys(table.columns[1:], 24)


def test_predict_knows_the_columns_of_training(
    run: Path, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    long = table.melt("date", var_name="store", value_name="sales").rename(columns={"date": "hour"})
    long.to_csv(tmp_path / "long.csv", index=False)
    (tmp_path / "small.yaml").write_text(CONFIG, encoding="utf-8")
    options = {"path": tmp_path / "long.csv", "date_column": "hour", "id_column": "store"}
    fit = [part for key, value in options.items() for part in (f"--data.{key}", str(value))]
    fit += ["--data.value_column", "sales", "--trainer.max_steps", "2"]
    assert main(["timeseries", "fit", "--config", str(tmp_path / "small.yaml"), *fit]) == 0
    out = tmp_path / "next.csv"
    assert main(["timeseries", "predict", "--input", str(tmp_path / "long.csv"), "--out", str(out)]) == 0
    assert list(pd.read_csv(out).columns) == ["store", "hour", "sales"]
    table.to_csv(tmp_path / "wide.csv", index=False)
    assert main(["timeseries", "predict", "--input", str(tmp_path / "wide.csv"), "--out", str(out)]) == 0
    assert list(pd.read_csv(out).columns) == list(table.columns)


def test_predict_names_the_mend_for_a_long_file_and_for_an_option_of_training(
    run: Path, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = table.iloc[:200].melt("date", var_name="store", value_name="sales").dropna()
    long.to_csv(tmp_path / "long.csv", index=False)
    arguments = ["timeseries", "predict", "--input", str(tmp_path / "long.csv"), "--run", str(run)]
    assert main(arguments) == 2
    assert "in a long file, name `id_column` and `value_column`" in capsys.readouterr().err
    assert main([*arguments, "--data.id_column", "store"]) == 2
    assert "did you mean 'id_column'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda frame: frame.drop(columns="date"), "no date column"),
        (lambda frame: frame.iloc[[1, 0, *range(2, len(frame))]], "comes before the row above"),
        (lambda frame: frame.iloc[[0, 0, *range(1, len(frame))]], "is there twice"),
        (lambda frame: frame.assign(demand_1="many"), "'demand_1' holds 'many'"),
        (lambda frame: frame.assign(demand_1=np.nan), "'demand_1' has no value at all"),
        (lambda frame: frame.iloc[:0], "no rows"),
    ],
)
def test_a_bad_file_gets_one_sentence_and_leaves_nothing(
    run: Path, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], change, sentence: str
) -> None:
    file, out = tmp_path / "bad.csv", tmp_path / "next.csv"
    change(table.iloc[:200]).to_csv(file, index=False)
    assert main(["timeseries", "predict", "--input", str(file), "--out", str(out), "--run", str(run)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {file}")
    assert sentence in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv"]


def test_a_checkpoint_of_another_app_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stolen = tmp_path / "run"
    (stolen / "checkpoints").mkdir(parents=True)
    (stolen / "config.yaml").write_text((run / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["collegium"]["app"] = "lidar"
    torch.save(checkpoint, stolen / "checkpoints" / "best.ckpt")
    assert main(["timeseries", "predict", "--input", "x.csv", "--run", str(stolen)]) == 2
    assert "belongs to lidar, not to timeseries" in capsys.readouterr().err


def test_evaluate_measures_another_file_in_the_same_format(
    run: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    file, out = tmp_path / "later.csv", tmp_path / "evaluation"
    table.to_csv(file, index=False)
    arguments = ["--run", str(run), "--path", str(file), "--split", "test", "--out", str(out)]
    assert main(["timeseries", "evaluate", *arguments]) == 0
    rows = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["rows"]
    whole, quarters, series = rows[0], rows[1:5], rows[5:]
    assert whole["slice"] == "all"
    assert [row["slice"] for row in quarters] == ["steps 1-6", "steps 7-12", "steps 13-18", "steps 19-24"]
    assert [row["slice"] for row in series] == list(table.columns[1:])
    assert sum(row["windows"] for row in series) == whole["windows"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "small, run 1" in page
    assert f"{whole['mse']:.4g}" in page


def test_evaluate_takes_the_columns_of_another_file(
    run: Path, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = []
    for name in ("date", "noted"):
        table.rename(columns={"date": name}).to_csv(tmp_path / f"{name}.csv", index=False)
        arguments = ["--run", str(run), "--path", str(tmp_path / f"{name}.csv"), "--date_column", name]
        assert main(["timeseries", "evaluate", *arguments, "--out", str(tmp_path / name)]) == 0
        measured.append((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))
    assert measured[0] == measured[1]
    assert main(["timeseries", "evaluate", "--run", str(run), "--date_column", "noted"]) == 2
    assert "--date_column tells how another file is read: give its --path too" in capsys.readouterr().err


def test_evaluate_measures_every_horizon_that_training_validated(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    file, config = tmp_path / "mine.csv", tmp_path / "small.yaml"
    table.to_csv(file, index=False)
    config.write_text(CONFIG, encoding="utf-8")
    options = ["--config", str(config), "--data.path", str(file)]
    assert main(["timeseries", "fit", *options, "--data.horizons", "[8, 24]"]) == 0
    assert main(["timeseries", "evaluate"]) == 0
    run = tmp_path / "timeseries" / "small" / "1"
    rows = json.loads((run / "evaluation/validation/metrics.json").read_text(encoding="utf-8"))["rows"]
    found = {row["slice"]: row for row in rows}
    metrics = pd.read_csv(run / "metrics.csv")
    mean = (found["all"]["mse"] + found["horizon 8"]["mse"]) / 2
    assert mean == pytest.approx(metrics["val/mse"].dropna().iloc[-1], rel=1e-3)
    assert found["horizon 8"]["mse"] < found["all"]["mse"]


def test_evaluate_says_when_the_data_of_training_is_gone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["timeseries", "evaluate", "--run", str(run)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "mine.csv" in line
