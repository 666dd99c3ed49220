"""A run by its configuration, from the command line to the report."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from apps.common.commands import run_lightning
from apps.common.main import main
from apps.common.runs import find_run
from apps.drift.evaluate import load_run
from apps.drift.fair.fairness import gaps
from apps.drift.fair.report import fair_sections
from apps.drift.report import sections

ROOT = Path(__file__).parents[4]
OFTEN = ["--trainer.val_check_interval", "20"]
FAIR = ["Fairness over time", "What features add"]


def fit(folder: Path, monkeypatch: pytest.MonkeyPatch, config: str, *options: str) -> Path:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(folder))
    file = ROOT / "configs" / "drift" / f"{config}.yaml"
    run_lightning("drift", ["fit", "--config", str(file), "--data.rows", "1600", *options, *OFTEN])
    return find_run("drift", None).path


def test_a_fair_run_shows_gaps_and_attributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, data = load_run(find_run("drift", fit(tmp_path, monkeypatch, "feamoe")))
    assert [section.title for section in sections(task, data)][-2:] == FAIR
    table = task.history.table()
    rows = fair_sections(task, data)[0].table
    assert rows is not None
    assert rows[0]["rows"] == f"0 to {len(table['label']):,}"
    assert [row["rows"].split()[0] for row in rows[1:]] == ["0", *(f"{row:,}" for row in data.drifts)]
    for name, value in gaps(table).items():
        assert rows[0][name] == pytest.approx(value, abs=1e-4)
    own = table["predicted"][table["group"] == data.groups.index("1")]
    assert rows[0]["wanted, 1"] == pytest.approx(own.mean(), abs=1e-4)


def test_evaluate_tells_the_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(tmp_path, monkeypatch, "feamoe")
    assert main(["drift", "evaluate", "--run", str(run)]) == 0
    assert "Between groups by group, of decisions; 0 is fair." in capsys.readouterr().out
    rows = json.loads((run / "evaluation/all/metrics.json").read_text(encoding="utf-8"))["gaps"]
    task, data = load_run(find_run("drift", run))
    table, names = task.history.table(), task.network.expert_names
    spans = [0, *data.drifts, len(table["label"])]
    slices = [f"rows {begin:,} to {end:,}" for begin, end in pairwise(spans)]
    assert [row["slice"] for row in rows] == ["all", *slices, *(f"expert {name}" for name in names)]
    for row, part in zip(rows, [slice(None), *(slice(*span) for span in pairwise(spans))], strict=False):
        expected = gaps({name: column[part] for name, column in table.items()})
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    alone = table | {"predicted": table["said"][:, 0]}
    assert rows[-len(names)]["parity"] == pytest.approx(gaps(alone)["parity"], abs=1e-4)
    assert rows[-1]["burden"] is None


def test_another_model_shows_its_gaps_where_there_is_a_sensitive_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--data.name", "hiring", "--data.sensitive", "group"]
    task, data = load_run(find_run("drift", fit(tmp_path, monkeypatch, "default", *options)))
    (section,) = fair_sections(task, data)
    assert section.title == FAIR[0]
    assert section.table is not None
    assert "burden" not in section.table[0]
    assert np.isfinite(section.table[0]["parity"])
    data.sensitive = None
    assert fair_sections(task, data) == []
