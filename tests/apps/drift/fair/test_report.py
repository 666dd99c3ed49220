"""A run by its configuration, from the command line to the report."""

from pathlib import Path

import numpy as np
import pytest

from apps.common.commands import run_lightning
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
