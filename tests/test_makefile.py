"""The Makefile, the set-up script and the check of every change, in a small copy of the checkout."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Two apps, a finished set-up, the real Makefile and scripts."""
    for name in (
        "core/pyproject.toml",
        "requirements.lock",
        "requirements-peers.lock",
        "requirements-bench.lock",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("apps/alpha/data.py", "apps/beta/data.py", "apps/common/task.py", ".venv/.ready"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    return tmp_path


def run(checkout: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "COLLEGIUM"))}
    return subprocess.run(command, cwd=checkout, env=kept | env, capture_output=True, text=True, check=False)


def stub(folder: Path, name: str, script: str) -> Path:
    """An executable that stands in for a program of the machine."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_help_describes_every_command(checkout: Path) -> None:
    shown = run(checkout, "make").stdout
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", (checkout / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    commands = [word for word in phony[1].replace("\\", "").split() if not word.startswith("named-")]
    assert {"train", "evaluate", "predict", "compare", "new-app", "lock"} <= set(commands)
    for command in commands:
        assert re.search(rf"^make {command} +\S", shown, re.MULTILINE), command
    assert "Apps: alpha beta\n" in shown


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "compare", "data"])
@pytest.mark.parametrize("app", [[], ["APP=gamma"], ["APP=common"]])
def test_a_missing_app_is_one_sentence_with_the_apps(checkout: Path, command: str, app: list[str]) -> None:
    result = run(checkout, "make", command, *app)
    assert result.returncode != 0
    assert result.stderr.startswith("error: ")
    assert "alpha beta" in result.stderr.splitlines()[0]


def test_the_environment_does_not_choose_an_app(checkout: Path) -> None:
    assert run(checkout, "make", "train", APP="alpha").returncode != 0


def test_other_missing_variables_are_named(checkout: Path) -> None:
    assert "INPUT=<file>" in run(checkout, "make", "predict", "APP=alpha").stderr
    assert "NAME=<name>" in run(checkout, "make", "new-app").stderr


def test_train_passes_everything_on(checkout: Path) -> None:
    plain = run(checkout, "make", "-n", "train", "APP=alpha").stdout
    assert "-m apps alpha fit --config configs/alpha/default.yaml" in plain
    assert "--resume" not in plain
    full = run(
        checkout, "make", "-n", "train", "APP=beta", "CONFIG=long", "RESUME=1", "ARGS=--trainer.max_epochs 3"
    ).stdout
    assert "-m apps beta fit --config configs/beta/long.yaml --resume --trainer.max_epochs 3" in full
    named = run(checkout, "make", "-n", "train", "APP=beta", "RUN=runs/beta/long/2").stdout
    assert "--run 'runs/beta/long/2'" in named


def test_options_appear_only_when_given(checkout: Path) -> None:
    assert run(checkout, "make", "-n", "evaluate", "APP=alpha").stdout.rstrip().endswith("alpha evaluate")
    shown = run(checkout, "make", "-n", "predict", "APP=alpha", "INPUT=a b.csv", "HORIZON=24").stdout
    assert "predict --input 'a b.csv'" in shown
    assert "--horizon '24'" in shown
    assert "--run" not in shown
    compared = run(checkout, "make", "-n", "compare", "APP=alpha", "PROFILE=full", "JOBS=3").stdout
    assert "compare --profile full --jobs 3" in compared


def test_an_up_to_date_environment_is_left_alone(checkout: Path) -> None:
    assert "tools/setup.sh" not in run(checkout, "make", "-n", "list").stdout
    os.utime(checkout / ".venv/.ready", (0, 0))
    assert "tools/setup.sh" in run(checkout, "make", "-n", "list").stdout


def test_peers_are_added_by_comparisons_and_tests_alone(checkout: Path) -> None:
    for command in (["compare", "APP=alpha"], ["test"], ["peers"]):
        assert "-r requirements-peers.lock" in run(checkout, "make", "-n", *command).stdout
    for command in (["setup"], ["train", "APP=alpha"], ["evaluate", "APP=alpha"]):
        assert "requirements-peers.lock" not in run(checkout, "make", "-n", *command).stdout


def test_an_old_python_is_refused(checkout: Path) -> None:
    old = stub(checkout / "bin", "python", '[ "$1" = --version ] && echo Python 3.9.1 && exit; exit 1')
    result = run(checkout, "tools/setup.sh", PYTHON=str(old))
    assert result.returncode == 2
    assert result.stderr.startswith("error: Python 3.11 or newer is needed")
    assert "Python 3.9.1" in result.stderr


def test_a_python_without_venv_is_told_the_package(checkout: Path) -> None:
    script = 'case "$2" in *version_info.major*) echo 3.12;; *ensurepip*) exit 1;; esac'
    bare = stub(checkout / "bin", "python", script)
    stub(checkout / "bin", "id", "echo 1000")
    path = f"{checkout / 'bin'}:{os.environ['PATH']}"
    result = run(checkout, "tools/setup.sh", PYTHON=str(bare), PATH=path)
    assert result.returncode == 2
    assert "sudo apt-get install python3.12-venv" in result.stderr


def test_the_check_runs_the_linters_and_then_the_tests(checkout: Path) -> None:
    stub(checkout / "bin", "make", 'echo "$1"; [ "$1" != "$FAIL" ]')
    path = f"{checkout / 'bin'}:{os.environ['PATH']}"
    assert run(checkout, ".ci/run", PATH=path).stdout.split() == ["lint", "test"]
    assert run(checkout, ".ci/run", PATH=path, FAIL="lint").stdout.split() == ["lint"]
    assert run(checkout, ".ci/run", PATH=path, FAIL="test").returncode != 0
