"""`make new-app` writes an app that works at once, in a copy of the checkout."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from apps.common.errors import UserError
from apps.common.scaffold import new_app

ROOT = Path(__file__).parents[3]


def run(checkout: Path, *module: str) -> str:
    """Run `python -m ...` in the copy and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *module], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_new_app_works_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("COLLEGIUM_APPS", "COLLEGIUM_RUNS", "COLLEGIUM_DATA"):
        monkeypatch.delenv(variable, raising=False)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "apps" / "common", tmp_path / "apps" / "common", ignore=ignored)
    for name in ("apps/__init__.py", "apps/__main__.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)

    run(tmp_path, "apps", "new-app", "foo")
    run(tmp_path, "ruff", "check", "apps/foo", "tests/apps/foo")
    run(tmp_path, "ruff", "format", "--check", "apps/foo", "tests/apps/foo")
    assert "template" not in run(tmp_path, "apps", "list")

    fit = ("fit", "--config", "configs/foo/default.yaml", "--trainer.max_epochs", "1")
    run(tmp_path, "apps", "foo", *fit)
    assert (tmp_path / "runs/foo/default/1/report.html").is_file()
    assert "accuracy" in run(tmp_path, "apps", "foo", "evaluate")
    metrics = json.loads((tmp_path / "runs/foo/default/1/evaluation/validation/metrics.json").read_text())
    assert metrics["rows"][0]["accuracy"] > 0.5

    from apps.common.template.simulate import simulate

    simulate(7).drop(columns="label").to_csv(tmp_path / "mine.csv", index=False)
    run(tmp_path, "apps", "foo", "predict", "--input", "mine.csv", "--out", "told.csv")
    told = pd.read_csv(tmp_path / "told.csv")
    assert list(told) == ["label", "p_no", "p_yes"]
    assert len(told) == 7
    assert (told["p_no"] + told["p_yes"]).round(4).eq(1).all()

    config = tmp_path / "configs/foo/compare.yaml"
    small = {"data": ["generated"], "arms": ["routed", "logistic_regression"], "seeds": 1}
    small["budget"] = {"epochs": 1, "learning_rates": [1e-3]}
    profiles = yaml.safe_load(config.read_text())["profiles"]
    config.write_text(yaml.safe_dump({"profiles": {**profiles, "quick": small}}))
    run(tmp_path, "apps", "foo", "compare", "--jobs", "1")
    assert "| logistic_regression" in (tmp_path / "apps/foo/README.md").read_text()

    run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "tests/apps/foo")


@pytest.mark.parametrize("name", ["", "Foo", "1st", "a-b", "class", "common", "list", "../up", "results"])
def test_a_name_that_cannot_be_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLEGIUM_APPS", str(tmp_path / "apps"))
    with pytest.raises(UserError, match="cannot be the name") as caught:
        new_app(name)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_exists_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLEGIUM_APPS", str(tmp_path / "apps"))
    held = tmp_path / "configs/foo/default.yaml"
    held.parent.mkdir(parents=True)
    held.write_text("mine")
    with pytest.raises(UserError, match=r"configs/foo/default.yaml exists already"):
        new_app("foo")
    assert held.read_text() == "mine"
    assert not (tmp_path / "apps").exists()

    new_app("bar")
    with pytest.raises(UserError, match="there is an app bar already"):
        new_app("bar")
