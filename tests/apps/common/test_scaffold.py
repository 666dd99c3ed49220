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
from apps.common.template.simulate import simulate

ROOT = Path(__file__).parents[3]
COMMANDS = (
    "import json, sys; from apps.common.main import main; sys.exit(max(map(main, json.loads(sys.argv[1]))))"
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout without any app."""
    for variable in ("COLLEGIUM_APPS", "COLLEGIUM_RUNS", "COLLEGIUM_DATA"):
        monkeypatch.delenv(variable, raising=False)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "apps" / "common", tmp_path / "apps" / "common", ignore=ignored)
    for name in ("apps/__init__.py", "apps/__main__.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def run(checkout: Path, *arguments: str) -> str:
    """Run Python in the copy and return what it printed."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_new_app_works_at_once(checkout: Path) -> None:
    run(checkout, "-m", "apps", "new-app", "foo")
    run(checkout, "-m", "ruff", "check", "apps/foo", "tests/apps/foo")
    run(checkout, "-m", "ruff", "format", "--check", "apps/foo", "tests/apps/foo")

    simulate(7).drop(columns="label").to_csv(checkout / "mine.csv", index=False)
    make_small(checkout / "configs/foo/compare.yaml")
    fit = ["foo", "fit", "--config", "configs/foo/default.yaml", "--trainer.max_epochs", "1"]
    predict = ["foo", "predict", "--input", "mine.csv", "--out", "told.csv"]
    compare = ["foo", "compare", "--jobs", "1"]
    run(checkout, "-c", COMMANDS, json.dumps([["list"], fit, ["foo", "evaluate"], predict, compare]))
    run(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/apps/foo")

    trained = checkout / "runs/foo/default/1"
    assert (trained / "report.html").is_file()
    metrics = json.loads((trained / "evaluation/validation/metrics.json").read_text())
    assert metrics["rows"][0]["accuracy"] > 0.5
    told = pd.read_csv(checkout / "told.csv")
    assert list(told) == ["prediction", "p_no", "p_yes"]
    assert (told["p_no"] + told["p_yes"]).round(4).eq(1).sum() == 7
    assert "| logistic_regression" in (checkout / "apps/foo/README.md").read_text()


def make_small(config: Path) -> None:
    """Leave two arms, one seed and one epoch of the quick profile."""
    profiles = yaml.safe_load(config.read_text())["profiles"]
    profiles["quick"] |= {"arms": ["routed", "logistic_regression"], "seeds": 1}
    profiles["quick"]["budget"]["epochs"] = 1
    config.write_text(yaml.safe_dump({"profiles": profiles}))


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
