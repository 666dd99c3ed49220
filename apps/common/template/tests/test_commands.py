"""From a file to a run, its figures and predictions, when the file is gone."""

import json
from pathlib import Path

import pandas as pd
import pytest

from apps.common.contract import check_app
from apps.common.discovery import project_root
from apps.common.main import main
from apps.common.template.simulate import simulate


def test_the_app_keeps_the_contract() -> None:
    assert check_app("template") == []


def test_a_run_is_measured_and_predicts_without_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path))
    file, out = tmp_path / "rows.csv", tmp_path / "said.csv"
    simulate(1200).to_csv(file, index=False)
    config = project_root() / "configs" / "template" / "default.yaml"
    options = ["--data.path", str(file), "--trainer.max_epochs", "3"]
    assert main(["template", "fit", "--config", str(config), *options]) == 0
    assert main(["template", "evaluate"]) == 0
    metrics = tmp_path / "template/default/1/evaluation/validation/metrics.json"
    assert json.loads(metrics.read_text())["rows"][0]["accuracy"] > 0.6
    file.unlink()
    simulate(20, seed=5).drop(columns="label").to_csv(tmp_path / "new.csv", index=False)
    assert main(["template", "predict", "--input", str(tmp_path / "new.csv"), "--out", str(out)]) == 0
    said = pd.read_csv(out)
    assert list(said) == ["prediction", "p_no", "p_yes"]
    assert len(said) == 20
