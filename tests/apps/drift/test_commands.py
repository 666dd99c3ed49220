"""Training, measuring and predicting from the command line."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from apps.common.discovery import project_root
from apps.common.main import main
from apps.common.runs import Run
from apps.drift.evaluate import load_run
from apps.drift.learner import Learner
from apps.drift.predict import predict
from apps.drift.task import Task
from tests.apps.common.helpers import broken_off

CONFIG = (project_root() / "configs/drift/default.yaml").read_text(encoding="utf-8")


def table(count: int = 900, seed: int = 0) -> pd.DataFrame:
    """A stream whose rule turns round half-way, with gaps."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"size": random.normal(size=count), "sky": random.choice(["sun", "rain"], count)})
    label = (frame["size"] + (frame["sky"] == "rain") > 0.5).to_numpy().copy()
    label[count // 2 :] = ~label[count // 2 :]
    frame["when"] = pd.date_range("2024-01-01", periods=count, freq="h").astype(str)
    frame.loc[::17, "size"] = None
    return frame.assign(state=np.where(label, "up", "down"))


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
    assert {"train/accuracy", "val/accuracy", "train/loss"} <= set(metrics)


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


def test_predict_writes_groups_and_learns_by_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = table().assign(sex=["f", "m", None] * 300)
    files = {name: (tmp_path / f"{name}.csv", tmp_path / f"p_{name}.csv") for name in ("all", "one", "two")}
    for name, part in {"all": whole, "one": whole[:448], "two": whole[448:]}.items():
        part.to_csv(files[name][0], index=False)
    network = {"class_path": "apps.drift.fair.linear.FEAMOE", "init_args": {"weight": 5.0}}
    fair, blind = (Learner(network, "state", 2, 1e-2, sensitive=name) for name in ("sex", None))
    rows = whole.fillna({"sex": ""}).to_dict("records")
    for learner in (fair, blind):
        for first in range(0, 448, 16):
            learner.learn(rows[first : first + 16], [row["state"] for row in rows[first : first + 16]])
    assert fair.groups.names == ["f", "m"]
    assert not any("sex" in name for name in fair.schema.features)
    assert any("sex" in name for name in blind.schema.features)
    state = tmp_path / "state.pt"
    fair.save(state)
    predict = ["drift", "predict", "--input", str(files["two"][0]), "--out", str(files["two"][1])]
    assert main([*predict, "--state", str(state), "--sensitive", "size"]) == 2
    assert "was learned with groups by sex" in capsys.readouterr().err
    assert main([*predict, "--state", str(state)]) == 0
    said = pd.read_csv(files["two"][1])
    assert said["group"].fillna("").tolist() == whole["sex"][448:].fillna("").tolist()
    assert Learner.load(state).groups.names == ["f", "m"]


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


def test_a_line_in_is_a_line_out(tmp_path: Path) -> None:
    lines = table(60).to_json(orient="records", lines=True)
    command = [sys.executable, "-m", "apps", "drift", "predict", "--input", "-", "--target", "state"]
    command += ["--state", str(tmp_path / "state.pt")]
    done = subprocess.run(
        command, input=lines, capture_output=True, text=True, cwd=project_root(), check=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 60
    assert {"prediction", "trusts", "p_up", "p_down"} <= set(answers[-1])
    assert (tmp_path / "state.pt").is_file()


@pytest.mark.parametrize(
    ("lines", "arguments", "sentence"),
    [
        ("size,state\n1,up\n2,down\n", ["--target", "label"], "has no column 'label': it has size, state"),
        ("size,state\n1,up\n2,down\n", [], "name the column of the labels"),
        ("state\nup\ndown\n", ["--target", "state"], "no column but the label"),
        ("size,state\n", ["--target", "state"], "there are no rows"),
        ("size,state\n1,a\n2,b\n3,c\n", ["--target", "state", "--classes", "2"], "raise classes"),
        ("size,state\n1,up\n", ["--target", "state", "--chunk", "0"], "learn at least 1 row"),
    ],
)
def test_a_stream_that_cannot_be_learned_is_refused(
    lines: str, arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.csv").write_text(lines, encoding="utf-8")
    files = ["--input", str(tmp_path / "mine.csv"), "--out", str(tmp_path / "p.csv")]
    assert main(["drift", "predict", *files, *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


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


def test_a_state_is_kept_when_a_stream_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by Ctrl-C. A line that is no JSON is told, and the stream goes on."""
    rows = [json.dumps(row) for row in json.loads(table(48).to_json(orient="records"))]

    def lines() -> Iterator[str]:
        yield from rows
        raise KeyboardInterrupt

    state = tmp_path / "stream.pt"
    monkeypatch.setattr("sys.stdin", lines())
    with pytest.raises(KeyboardInterrupt):
        predict(Path("-"), target="state", state=state)
    assert Learner.load(state).rows == 48
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", iter([*rows[:20], "", "{oops", "[1]", *rows[20:]]))
    predict(Path("-"), state=state)
    assert Learner.load(state).rows == 96
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 50
    assert [answer["error"].split(" is ")[0] for answer in answers if "error" in answer] == [
        "line 22",
        "line 23",
    ]


def test_what_fails_leaves_the_state_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame, state, out = table(80), tmp_path / "stream.pt", tmp_path / "said.csv"
    frame.to_csv(tmp_path / "first.csv", index=False)
    predict(tmp_path / "first.csv", out, target="state", state=state, classes=3)
    before = state.read_bytes()
    frame.assign(state=[f"label {i}" for i in range(80)]).to_csv(tmp_path / "next.csv", index=False)
    options = ["--input", str(tmp_path / "next.csv"), "--out", str(tmp_path / "p.csv"), "--state", str(state)]
    assert main(["drift", "predict", *options]) == 2
    assert "the label 'label 1' is the 4th" in capsys.readouterr().err
    assert main(["drift", "predict", *options, "--classes", "100"]) == 2
    assert "has room for 3 labels, and no more can be made" in capsys.readouterr().err
    assert state.read_bytes() == before
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--state", "said.csv", "--out", "said.csv"], "is the input or the output as well"),
        (["--state", "mine.csv"], "is the input or the output as well"),
        (["--state", "/proc/nowhere/x.pt"], "cannot be written"),
        (["--out", "/proc/nowhere/said.csv"], "cannot be written"),
        (["--state", "there.pt", "--run", "runs/drift/default/9"], "is there, so that runs/drift/default/9"),
        (["--state", "there.pt"], "there.pt is no state of a stream"),
    ],
)
def test_places_that_do_not_fit_are_refused_before_anything_is_learned(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    table(40).to_csv("mine.csv", index=False)
    Path("there.pt").write_text("a,b\n1,2\n")
    assert main(["drift", "predict", "--input", "mine.csv", "--target", "state", *options]) == 2
    assert sentence in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"mine.csv", "there.pt"}


def test_lines_that_tell_nothing_are_answered_and_the_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["{}", *[json.dumps(row) for row in json.loads(table(40).to_json(orient="records"))]]
    rows += ["{}", '{"state": "up"}', '{"size": 1, "state": "left"}', "[" * 100_000, rows[1]]
    monkeypatch.setattr("sys.stdin", iter(rows))
    predict(Path("-"), target="state", classes=2)
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    faults = {number: answer["error"] for number, answer in enumerate(answers) if "error" in answer}
    assert list(faults) == [0, 43, 44]
    assert "no column but the label" in faults[0]
    assert "the label 'left' is the 3th" in faults[43]
    assert answers[41]["prediction"] in ("up", "down")  # as of a row whose cells are all missing


def test_what_waited_for_its_chunk_is_learned_when_a_stream_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines() -> Iterator[str]:
        yield from (json.dumps(row) for row in json.loads(table(30).to_json(orient="records")))
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", lines())
    with pytest.raises(KeyboardInterrupt):
        predict(Path("-"), target="state", state=tmp_path / "stream.pt", chunk=16)
    assert Learner.load(tmp_path / "stream.pt").rows == 30


def test_a_reader_that_has_gone_ends_a_stream_quietly(tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in json.loads(table(400).to_json(orient="records"))]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    command = f"{sys.executable} -m apps drift predict --input - --target state --state {tmp_path}/stream.pt"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} < {tmp_path}/rows.jsonl | head -1"],
        cwd=project_root(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert 1 <= Learner.load(tmp_path / "stream.pt").rows < 400


def test_columns_that_go_and_labels_that_are_missing_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = table(300)
    frame.loc[200:, "sky"], frame.loc[250:, "state"] = None, None
    frame.to_csv(tmp_path / "mine.csv", index=False)
    predict(tmp_path / "mine.csv", tmp_path / "said.csv", target="state")
    told = capsys.readouterr().out
    assert "note: column sky: 100 cells hold nothing" in told
    assert "note: 50 rows have no label, and were not learned" in told


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


def test_a_number_beyond_all_bounds_is_missing(tmp_path: Path) -> None:
    frame = table(300)
    frame.loc[100, "size"] = 1e300
    frame.to_csv(tmp_path / "wild.csv", index=False)
    predict(tmp_path / "wild.csv", tmp_path / "said.csv", target="state")
    said = pd.read_csv(tmp_path / "said.csv")
    shares = said.filter(like="p_").iloc[1:]
    assert np.isfinite(shares).all(axis=None)
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)


def test_standard_input_is_answered_by_all_labels_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(table(80).to_json(orient="records"))
    monkeypatch.setattr("sys.stdin", iter([json.dumps(row) for row in rows]))
    predict(Path("-"), target="state", state=tmp_path / "stream.pt")
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    learner = Learner(Learner.load(tmp_path / "stream.pt").config, "state")
    for row, answer in zip(rows, answers, strict=True):
        said = learner.learn([row], [row["state"]]).probs[0].tolist()
        for name, p in zip(learner.labels.names, said, strict=True):
            assert answer.get(f"p_{name}", 0.0) == pytest.approx(p, abs=2e-4)
    assert answers[0]["prediction"] is None


def test_a_label_is_no_answer_before_it_has_come(tmp_path: Path) -> None:
    frame = table(64)
    frame.loc[:39, "state"], frame.loc[40:, "state"] = "old", "new"
    frame.to_csv(tmp_path / "mine.csv", index=False)
    predict(tmp_path / "mine.csv", tmp_path / "said.csv", target="state")
    said = pd.read_csv(tmp_path / "said.csv")
    assert said["prediction"].isna().tolist() == [True] + 63 * [False]
    assert (said["p_new"][:41] == 0).all()
    assert (said["p_old"][1:41] == 1).all()
    assert (said["p_new"][41:] > 0).all()


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
