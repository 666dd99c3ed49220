"""From a file to a run, its figures and predictions, when the file is gone."""

import json
from pathlib import Path

import pandas as pd
import pytest

from apps.common.discovery import project_root
from apps.common.main import main
from apps.recsys.simulate import simulate
from apps.recsys.task import Task
from tests.apps.common.helpers import checkpoint, differing_weights, whole_and_broken

CONFIG = str(project_root() / "configs" / "recsys" / "default.yaml")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a file that is gone afterwards."""
    folder = tmp_path_factory.mktemp("runs")
    file = folder / "log.csv"
    simulate(3000, tasks=1).to_csv(file, index=False)
    options = ["--data.path", str(file), "--data.tasks", "[watch_0, interact_0]", "--trainer.max_epochs", "3"]
    options += ["--data.batch_size", "64"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLEGIUM_RUNS", str(folder))
        assert main(["recsys", "fit", "--config", CONFIG, *options, "--data.history", "3"]) == 0
        assert main(["recsys", "evaluate"]) == 0
    file.unlink()
    return folder / "recsys" / "default" / "1"


def test_a_run_is_measured_by_task_part_and_health(run: Path) -> None:
    found = json.loads((run / "evaluation/validation/metrics.json").read_text())
    assert [row["task"] for row in found["rows"]] == ["watch_0", "interact_0"]
    assert found["rows"][0]["auc"] > 0.6
    assert {row["slice"] for row in found["parts"]} >= {"all", "user, few rows", "item, many rows"}
    assert {row["disease"] for row in found["health"]} >= {"collapse", "sizes", "degradation", "underfitting"}
    page = (run / "evaluation/validation/report.html").read_text(encoding="utf-8")
    for title in (
        "Lift by task",
        "Calibration",
        "Long tail",
        "Gates by task",
        "Gates by user",
        "Health of the",
    ):
        assert title in page


@pytest.mark.parametrize(("config", "step"), [("default", 5), ("onerec_aligned", 11)])
def test_a_run_that_broke_off_ends_as_the_whole_one(config: str, step: int, tmp_path: Path) -> None:
    """Also one that by then learns what it prefers, from what it wrote itself."""
    options = [
        "--config",
        CONFIG.replace("default", config),
        "--data.rows",
        "1500",
        "--trainer.max_epochs",
        "4",
    ]
    whole, broken = whole_and_broken("recsys", Task, options, step, tmp_path)
    if config == "onerec_aligned":
        assert all(checkpoint(run)["state_dict"]["network.aligning"] for run in (whole, broken))
    assert differing_weights(whole, broken) == []


def predicted(run: Path, tmp_path: Path, table: pd.DataFrame, *options: str) -> pd.DataFrame | None:
    table.to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "said.csv"
    code = main(
        [
            "recsys",
            "predict",
            "--input",
            str(tmp_path / "new.csv"),
            "--out",
            str(out),
            "--run",
            str(run),
            *options,
        ]
    )
    assert (code == 0) == out.exists()
    return pd.read_csv(out) if code == 0 else None


def test_a_run_predicts_without_its_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = simulate(40, seed=5).drop(columns=["watch_0", "watch_1", "interact_0", "interact_1", "time"])
    table.loc[:9, "user_id"] = 99_999
    said = predicted(run, tmp_path, table)
    assert said is not None
    assert list(said) == ["user_id", "item_id", "p_watch_0", "p_interact_0"]
    assert said["user_id"].tolist() == table["user_id"].tolist()
    assert said["p_watch_0"].between(0, 1).all()
    assert said["p_watch_0"].mean() > said["p_interact_0"].mean()
    assert "of user_id unseen in training" in capsys.readouterr().out


def test_a_row_is_predicted_alike_alone_and_with_columns_in_another_order(run: Path, tmp_path: Path) -> None:
    table = simulate(20, seed=5)
    whole = predicted(run, tmp_path, table)
    (tmp_path / "said.csv").unlink()
    alone = predicted(run, tmp_path, table.iloc[[7], ::-1])
    assert whole is not None
    assert alone is not None
    assert alone["p_watch_0"].iloc[0] == pytest.approx(whole["p_watch_0"].iloc[7], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda table: table.drop(columns="x3"), "has no column 'x3'"),
        (lambda table: table.assign(x3="much"), "x3 is 'much' in row 1"),
        (lambda table: table.iloc[:0], "there are no rows"),
    ],
)
def test_rows_that_do_not_fit_are_one_sentence_and_write_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, fault: str
) -> None:
    assert predicted(run, tmp_path, change(simulate(20))) is None  # type: ignore[operator]
    told = capsys.readouterr().err
    assert fault in told
    assert str(tmp_path / "new.csv") in told
    assert told.count("\n") == 1


def test_a_schema_is_guessed_written_and_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    table = simulate(400, tasks=1)
    table["seconds"] = table["watch_0"] * 10 + table["x0"]
    file, schema = tmp_path / "log.csv", tmp_path / "schema.yaml"
    table.to_csv(file, index=False)
    tasks = "[watch_0, interact_0]"
    assert main(["recsys", "schema", "--input", str(file), "--tasks", tasks, "--out", str(schema)]) == 0
    assert "note: seconds alone tells watch_0 almost surely" in capsys.readouterr().out
    schema.write_text(schema.read_text().replace("outcomes: []", "outcomes: [seconds]"))
    options = [
        "--config",
        CONFIG,
        "--data.path",
        str(file),
        "--data.schema",
        str(schema),
        "--trainer.max_epochs",
        "1",
    ]
    assert main(["recsys", "fit", *options]) == 2
    assert (
        "the schema has seconds among features, and it is a label, tells one, or is an outcome"
        in capsys.readouterr().err
    )
    schema.write_text(schema.read_text().replace("  seconds: number\n", ""))
    assert main(["recsys", "fit", *options]) == 0


def test_a_checkpoint_of_other_tasks_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(400, tasks=1).to_csv(tmp_path / "log.csv", index=False)
    options = ["--data.path", str(tmp_path / "log.csv"), "--data.tasks", "[watch_0]"]
    code = main(["recsys", "validate", "--run", str(run), *options])
    assert code == 2
    assert "\n" not in capsys.readouterr().err.strip()


NEXT = ["--data.batch_size", "64", "--trainer.max_epochs", "2", "--data.rows", "2000"]


@pytest.fixture(scope="module", params=["aw_moe", "onerec"])
def next_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each recommender on the generated log."""
    folder = tmp_path_factory.mktemp("runs")
    config = str(project_root() / "configs" / "recsys" / f"{request.param}.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLEGIUM_RUNS", str(folder))
        assert main(["recsys", "fit", "--config", config, *NEXT]) == 0
        assert main(["recsys", "evaluate"]) == 0
    return folder / "recsys" / request.param / "1"


def test_a_recommender_is_measured_by_part(next_run: Path) -> None:
    found = json.loads((next_run / "evaluation/validation/metrics.json").read_text())
    assert {row["slice"] for row in found["rows"]} >= {"all", "user, few rows", "item, many rows"}
    assert 0 <= found["rows"][0]["ndcg_10"] <= found["rows"][0]["hr_10"] <= 1
    page = (next_run / "report.html").read_text(encoding="utf-8")
    for title in ("Hits by depth", "Long tail", "Popularity", "Experts by user"):
        assert f">{title}<" in page


def test_a_recommender_tells_each_user_new_items(next_run: Path, tmp_path: Path) -> None:
    table = simulate(300, seed=3)[["user_id", "item_id", "time"]]
    table.loc[0, ["user_id", "item_id"]] = [77_777, 55_555]  # somebody new, who took something new
    said = predicted(next_run, tmp_path, table, "--top", "4")
    assert said is not None
    assert list(said) == ["user_id", "rank", "item_id", "score"]
    assert set(said["user_id"]) == set(table["user_id"])
    assert said.groupby("user_id")["rank"].apply(list).map(lambda ranks: ranks == [1, 2, 3, 4]).all()
    taken = set(zip(table["user_id"], table["item_id"], strict=True))
    assert not taken & set(zip(said["user_id"], said["item_id"], strict=True))
    for _, own in said.groupby("user_id"):
        assert own["score"].is_monotonic_decreasing


def test_a_log_of_other_items_is_refused(
    next_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = simulate(50, seed=3)[["user_id", "item_id", "time"]]
    table["item_id"] += 1_000_000
    assert predicted(next_run, tmp_path, table) is None
    assert "none of its item_id was in training" in capsys.readouterr().err


def test_the_wrong_protocol_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    config = str(project_root() / "configs" / "recsys" / "aw_moe.yaml")
    assert main(["recsys", "fit", "--config", config, "--data.protocol", "impressions"]) == 2
    told = capsys.readouterr().err
    assert "AWMoE is for data.protocol next_item, and it is impressions: change one." in told
    assert main(["recsys", "fit", "--config", CONFIG, "--data.protocol", "next_item"]) == 2
    assert "Ranker is for data.protocol impressions, and it is next_item" in capsys.readouterr().err
