"""The toy app, in the place of the apps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from apps.common import cli
from apps.common.main import main
from tests.apps.common.helpers import TOY


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the toy apps in the place of the apps; return the folder of their runs."""
    monkeypatch.setenv("COLLEGIUM_APPS", str(TOY / "toys"))
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("COLLEGIUM_DATA", raising=False)
    return tmp_path / "runs"


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the report, where a test does not look at it."""
    monkeypatch.setattr(cli, "write_run_report", lambda run, *_: run.path)


@pytest.fixture
def fit(toys: Path, no_report: None) -> Callable[..., Path]:
    """Train the toy app with options; return its newest run folder."""

    def run(*options: str) -> Path:
        assert main(["moons", "fit", "--trainer.enable_progress_bar", "false", *options]) == 0
        return max((toys / "moons" / "default").iterdir(), key=lambda path: int(path.name))

    return run
