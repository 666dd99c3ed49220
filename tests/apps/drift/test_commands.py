"""Training, measuring and going on from a run, from the command line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from apps.common.discovery import project_root
from apps.common.main import main
from apps.common.runs import Run
from apps.drift.evaluate import load_run
from apps.drift.task import Task
from tests.apps.common.helpers import broken_off
from tests.apps.drift.tables import table

CONFIG = (project_root() / "configs/drift/default.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a file that is gone afterwards."""
    folder = tmp_path_factory.mktemp("runs")
    file, config = folder / "mine.csv", folder / "small.yaml"
    table().to_csv(file, index=False)
    config.write_text(CONFIG.replace("val_check_interval: 60", "val_check_interval: 10"), encoding="utf-8")
    options = ["--data.path", str(file), "--data.target", "state", "--data.window", "60"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLEGIUM_RUNS", str(folder))
        assert main(["drift", "fit", "--config", str(config), *options]) == 0
    file.unlink()
    return folder / "drift" / "small" / "1"


def test_a_run_tells_accuracy_and_trust(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    for title in ("Accuracy over time", "Whom the router trusts", "Each expert alone", "Learning curves"):
        assert f">{title}<" in page
    metrics = pd.read_csv(run / "metrics.csv")
    assert {"train/accuracy", "val/accuracy", "train/objective"} <= set(metrics)


def test_the_newest_checkpoint_is_kept(run: Path) -> None:
    task, _ = load_run(Run(run, "drift"))
    assert len(task.history) == 840


def test_evaluate_measures_what_was_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", "evaluate", "--run", str(run)]) == 0
    found = json.loads((run / "evaluation/all/metrics.json").read_text(encoding="utf-8"))
    rows = {row["slice"]: row for row in found["rows"]}
    assert {"all", "majority", "no_change", "expert bayes 300"} <= set(rows)
    assert rows["all"]["accuracy"] > rows["majority"]["accuracy"]
    history = load_run(Run(run, "drift"))[0].history.table()
    assert rows["all"]["accuracy"] == pytest.approx(
        (history["label"] == history["predicted"]).mean(), rel=1e-5
    )
    assert main(["drift", "evaluate", "--run", str(run), "--split", "test"]) == 0
    rest = json.loads((run / "evaluation/test/metrics.json").read_text(encoding="utf-8"))
    assert rest["rows"][0]["rows"] == 840 - 280


@pytest.mark.slow
def test_a_resumed_run_ends_as_the_whole_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    file, config = tmp_path / "mine.csv", tmp_path / "small.yaml"
    table().to_csv(file, index=False)
    config.write_text(CONFIG.replace("val_check_interval: 60", "val_check_interval: 10"), encoding="utf-8")
    options = ["--data.path", str(file), "--data.target", "state", "--data.window", "60"]
    fit = ["drift", "fit", "--config", str(config), *options, "--last_checkpoint.every_n_steps", "1"]
    with broken_off(Task, 23):
        assert main(fit) == 130
    assert main(["drift", "fit", "--config", str(config), "--resume"]) == 0
    one, two = (load_run(Run(path, "drift"))[0] for path in (run, tmp_path / "drift" / "small" / "1"))
    for name, column in one.history.table().items():
        np.testing.assert_array_equal(column, two.history.table()[name])
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_predict_runs_a_stream_and_goes_on_from_its_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = table()
    for name, part in {"all": whole, "one": whole[:448], "two": whole[448:]}.items():
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    predict = ["drift", "predict", "--target", "state"]
    state = ["--state", str(tmp_path / "state.pt")]
    for name, more in {"all": [], "one": state, "two": state}.items():
        files = ["--input", str(tmp_path / f"{name}.csv"), "--out", str(tmp_path / f"p_{name}.csv")]
        assert main([*predict, *files, *more]) == 0
    found = {name: pd.read_csv(tmp_path / f"p_{name}.csv") for name in ("all", "one", "two")}
    assert len(found["all"]) == 900
    both = pd.concat([found["one"], found["two"]], ignore_index=True)
    assert (both["prediction"] == found["all"]["prediction"]).mean() > 0.97
    assert (found["all"]["prediction"] == whole["state"]).mean() > 0.7
    assert found["all"]["p_up"].add(found["all"]["p_down"])[1:].round(4).eq(1).all()
    assert "of 900 labels right" in capsys.readouterr().out


def test_a_group_column_that_is_not_there_or_no_group_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(60).to_csv(tmp_path / "mine.csv", index=False)
    files = ["--input", str(tmp_path / "mine.csv"), "--out", str(tmp_path / "p.csv")]
    for column, sentence in {"sex": "have no column 'sex' to tell groups by", "when": "is the 21th"}.items():
        assert main(["drift", "predict", *files, "--target", "state", "--sensitive", column]) == 2
        assert sentence in capsys.readouterr().err


def test_a_trained_run_predicts_without_its_stream(run: Path, tmp_path: Path) -> None:
    table(100, seed=1).drop(columns="state").to_csv(tmp_path / "new.csv", index=False)
    files = ["--input", str(tmp_path / "new.csv"), "--out", str(tmp_path / "p.csv")]
    assert main(["drift", "predict", *files, "--run", str(run)]) == 0
    assert set(pd.read_csv(tmp_path / "p.csv")["prediction"]) <= {"up", "down"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--data.name", "sea", "--data.rows", "100"],
            "100 rows with a label, of which 320",
        ),
        (["--data.name", "elektricity"], "there is no stream 'elektricity': name one of sea, "),
        (["--data.target", "x"], "no column 'x'"),
        (["--data.drop", "[y]"], "no column 'y'"),
        (["--data.above", "1"], "holds 'down', which is no number"),
        (["--trainer.max_epochs", "3"], "trainer.max_epochs is 3, and a stream is learned once"),
        (["--data.target", "size"], "size has 376 labels: if it is a number, say --data.above"),
        (["--data.where", "'a' if size > 1 else 'b'"], "cannot be asked of its rows"),
    ],
)
def test_a_training_stream_that_does_not_fit_is_refused(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    table(400).to_csv(tmp_path / "mine.csv", index=False)
    fit = ["drift", "fit", "--config", str(project_root() / "configs/drift/default.yaml")]
    own = (
        []
        if "--data.name" in options
        else ["--data.path", str(tmp_path / "mine.csv"), "--data.target", "state"]
    )
    assert main([*fit, *own, *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("drift/*/*"))


def test_a_short_stream_is_learned_with_the_config_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "runs"))
    table(400).to_csv(tmp_path / "short.csv", index=False)
    options = ["--data.path", str(tmp_path / "short.csv"), "--data.target", "state"]
    assert (
        main(["drift", "fit", "--config", str(project_root() / "configs/drift/default.yaml"), *options]) == 0
    )


def test_training_tells_what_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "runs"))
    frame = table(500)
    frame.loc[20:29, "state"] = None
    frame.loc[10, "size"] = 0
    frame.astype({"size": object}).replace({"size": {0: "?"}}).to_csv(tmp_path / "mine.csv", index=False)
    options = ["--data.path", str(tmp_path / "mine.csv"), "--data.target", "state"]
    config = str(project_root() / "configs/drift/default.yaml")
    assert main(["drift", "fit", "--config", config, *options]) == 0
    told = capsys.readouterr().out
    assert "note: column size: 1 cells hold no number; they count as missing." in told
    assert "note: 10 rows have no label and are left out." in told


def test_a_run_goes_on_with_its_own_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    frame = table(400)
    frame["price"] = np.where(frame["state"] == "up", 7.5, 2.5)
    frame = frame.drop(columns="state")
    frame.to_csv(tmp_path / "mine.csv", index=False)
    config = str(project_root() / "configs/drift/default.yaml")
    told = ["--data.path", str(tmp_path / "mine.csv"), "--data.target", "price", "--data.above", "5"]
    assert main(["drift", "fit", "--config", config, *told, "--data.window", "40"]) == 0
    ask = ["drift", "predict", "--run", str(tmp_path / "drift/default/1"), "--out", str(tmp_path / "p.csv")]
    assert main([*ask, "--input", str(tmp_path / "mine.csv")]) == 0
    assert set(pd.read_csv(tmp_path / "p.csv")["prediction"].astype(str)) == {"True", "False"}
    assert "of 400 labels right" in capsys.readouterr().out
    refused = {
        "trained on the target price": ["--input", str(tmp_path / "mine.csv"), "--target", "size"],
        "no column 'colour' to drop": ["--input", str(tmp_path / "mine.csv"), "--drop", "[colour]"],
        "no column that was learned from": ["--input", str(tmp_path / "other.csv")],
        "'dear', which is no number": ["--input", str(tmp_path / "word.csv")],
    }
    pd.DataFrame({"wind": [1.0, 2.0], "price": [1.0, 9.0]}).to_csv(tmp_path / "other.csv", index=False)
    frame.astype({"price": object}).assign(price="dear").to_csv(tmp_path / "word.csv", index=False)
    for sentence, options in refused.items():
        assert main([*ask, *options]) == 2
        assert sentence in capsys.readouterr().err


def test_a_run_whose_routers_keep_a_bias_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    config = tmp_path / "biased.yaml"
    text = (project_root() / "configs/drift/driftmoe_data.yaml").read_text(encoding="utf-8")
    balanced = "model:\n  balance: {BiasBalance: 0.001}\n"
    config.write_text(text.replace("model:\n", balanced, 1), encoding="utf-8")
    assert main(["drift", "fit", "--config", str(config), "--data.rows", "1500"]) == 0
    task, _ = load_run(Run(tmp_path / "drift" / "biased" / "1", "drift"))
    assert "network.mixture.router.bias" in task.state_dict()
