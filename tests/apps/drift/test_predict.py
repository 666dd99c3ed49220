"""Streams of users: files and lines, what is answered, refused and kept."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from apps.common.discovery import project_root
from apps.common.main import main
from apps.drift.learner import Learner
from apps.drift.predict import predict
from tests.apps.drift.tables import table


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
    pd.DataFrame({"moon": range(80), "state": frame["state"]}).to_csv(tmp_path / "next.csv", index=False)
    options = ["--input", str(tmp_path / "next.csv"), "--out", str(tmp_path / "p.csv"), "--state", str(state)]
    assert main(["drift", "predict", *options]) == 2
    assert "has no column that was learned from" in capsys.readouterr().err
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
    assert "the label 'left' is one more than the 2" in faults[43]
    assert answers[41]["prediction"] in ("up", "down")  # as of a row whose cells are all missing


def test_bytes_that_are_no_text_are_answered_and_the_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.dumps(row).encode() for row in json.loads(table(20).to_json(orient="records"))]
    lines = [*rows[:10], b'{"size": 1, "state": "\xe9"}', *rows[10:]]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=iter(lines)))
    predict(Path("-"), target="state")
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [number for number, answer in enumerate(answers) if "error" in answer] == [10]


def test_a_group_too_many_is_answered_and_the_stream_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        json.dumps({**row, "who": f"g{number % 25}"})
        for number, row in enumerate(json.loads(table(50).to_json(orient="records")))
    ]
    monkeypatch.setattr("sys.stdin", iter(rows))
    predict(Path("-"), target="state", sensitive="who", chunk=16, state=tmp_path / "stream.pt")
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    wrong = [number for number, answer in enumerate(answers) if "error" in answer]
    assert wrong == [number for number in range(50) if number % 25 >= 20]
    assert Learner.load(tmp_path / "stream.pt").rows == 40


def test_a_service_that_is_stopped_keeps_what_was_learned(tmp_path: Path) -> None:
    state = tmp_path / "stream.pt"
    command = ["-m", "apps", "drift", "predict", "--input", "-", "--target", "state", "--state", str(state)]
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for row in json.loads(table(12).to_json(orient="records")):
            process.stdin.write(json.dumps(row) + "\n")
        process.stdin.flush()
        for _ in range(12):
            assert "prediction" in json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait(60) != 0
    assert Learner.load(state).rows in (11, 12)  # the last answer comes before its row is learned


def test_notes_tell_of_this_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame, state = table(60).dropna(ignore_index=True), tmp_path / "stream.pt"
    holey = frame.assign(size=frame["size"].where(frame.index % 6 > 0))
    for number, each in enumerate((holey, frame)):
        each.to_csv(tmp_path / f"{number}.csv", index=False)
        predict(tmp_path / f"{number}.csv", tmp_path / "said.csv", target="state", state=state)
        assert ("cells hold nothing" in capsys.readouterr().out) == (number == 0)


def test_labels_that_come_too_late_for_a_run_are_predicted_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame, state = table(80), tmp_path / "stream.pt"
    frame.to_csv(tmp_path / "first.csv", index=False)
    predict(tmp_path / "first.csv", tmp_path / "said.csv", target="state", state=state, classes=2)
    frame.assign(state=frame["state"].where(np.arange(80) % 8 > 0, "left")).to_csv(
        tmp_path / "next.csv", index=False
    )
    capsys.readouterr()
    predict(tmp_path / "next.csv", tmp_path / "said.csv", state=state)
    told = capsys.readouterr().out
    assert "10 rows have labels for which there is no room, which is 2 ('left')" in told
    assert "of 80 labels right" in told
    assert set(pd.read_csv(tmp_path / "said.csv")["prediction"]) <= {"up", "down"}
    assert Learner.load(state).rows == 150


def test_columns_that_are_codes_or_come_round_can_be_told(tmp_path: Path) -> None:
    frame, state = table(60).assign(hour=np.arange(60) % 24, post=1000 + np.arange(60) % 3), tmp_path / "s.pt"
    frame.to_csv(tmp_path / "first.csv", index=False)
    given = {"target": "state", "categories": ["post"], "cycles": {"hour": 24.0}}
    predict(tmp_path / "first.csv", tmp_path / "said.csv", state=state, **given)  # type: ignore[arg-type]
    schema = Learner.load(state).schema
    assert schema is not None
    kinds = {column.name: column.kind for column in schema.columns}
    assert (kinds["hour"], kinds["post"]) == ("cycle", "category")


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
