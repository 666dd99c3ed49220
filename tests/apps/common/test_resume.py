"""A training that was killed and resumed ends as the uninterrupted one, to the bit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.common import checkpoints, metrics_file
from apps.common.main import main
from apps.common.runs import Run, held
from tests.apps.common.helpers import checkpoint, differing_weights

Fit = Callable[..., Path]
ROOT = Path(__file__).parents[3]
STOPPING = [
    "--trainer.max_epochs=12",
    "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping",
    "--trainer.callbacks.monitor=val/loss",
    "--trainer.callbacks.patience=1",
]
SCENARIOS = {
    "schedule and dropout": [],
    "no warm-up": ["--model.warmup_steps=0", "--last_checkpoint.every_n_steps=1"],
    "every step": [
        "--last_checkpoint.every_n_steps=1",
        "--trainer.log_every_n_steps=1",
        "--trainer.max_epochs=2",
    ],
    "validation inside the epoch": ["--trainer.val_check_interval=3", "--last_checkpoint.every_n_steps=1"],
    "validation across epochs": ["--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=5"],
    "no validation": ["--trainer.limit_val_batches=0"],
    "accumulated gradients": ["--trainer.accumulate_grad_batches=3", "--last_checkpoint.every_n_steps=1"],
    "a number of steps": ["--trainer.max_steps=20", "--trainer.max_epochs=-1"],
    "a part of each epoch": ["--trainer.limit_train_batches=5"],
    "early stopping": STOPPING,
    "early stopping inside the epoch": [*STOPPING, "--trainer.val_check_interval=3"],
    "plateau schedule by epoch": ["--model.plateau=epoch", "--trainer.max_epochs=4"],
    "plateau schedule by step": ["--model.plateau=step", "--trainer.max_epochs=4"],
    "bias balancing": [
        "--model.network.init_args.router.init_args.bias=true",
        "--trainer.callbacks+=apps.common.callbacks.BiasBalancing",
        "--trainer.callbacks.rate=0.05",
        "--trainer.accumulate_grad_batches=3",
        "--last_checkpoint.every_n_steps=1",
    ],
}


class Snapshots:
    """Copies of the folder of all runs, as a kill would leave it at each moment something was written."""

    def __init__(self, runs: Path, folder: Path) -> None:
        self.runs, self.folder = runs, folder
        self.seen: dict[tuple[bytes, bytes], Path] = {}

    def after(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any) -> None:
            function(*args)
            self.take()

        return called

    def take(self) -> None:
        run = self.runs / "moons" / "default" / "1"
        parts = (run / "checkpoints" / "last.ckpt", run / "metrics.csv")
        key = tuple(part.read_bytes() if part.is_file() else b"" for part in parts)
        if (run / "config.yaml").is_file() and key not in self.seen:
            copy = self.folder / str(len(self.seen))
            shutil.copytree(self.runs, copy)
            self.seen[key] = copy  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("options", SCENARIOS.values(), ids=list(SCENARIOS))
def test_resume_from_every_moment(
    options: list[str], fit: Fit, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = Snapshots(toys, tmp_path / "snapshots")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_publish", snapshots.after(checkpoints._publish))
        patch.setattr(metrics_file.MetricsFile, "save", snapshots.after(metrics_file.MetricsFile.save))
        whole = fit(*options)
    moments = list(snapshots.seen.values())
    assert len(moments) > 5
    for copy in moments[:: max(1, len(moments) // 5)]:
        monkeypatch.setenv("COLLEGIUM_RUNS", str(copy))
        fit("--resume")
        resumed = copy / "moons" / "default" / "1"
        assert differing_weights(resumed, whole) == []
        assert checkpoint(resumed)["epoch"] == checkpoint(whole)["epoch"]
        assert checkpoint(resumed)["routing"] == checkpoint(whole)["routing"]
        assert (resumed / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
        if (whole / "checkpoints" / "best.ckpt").exists():
            assert differing_weights(resumed, whole, "best") == []


@pytest.mark.slow
def test_resume_after_kill_9(fit: Fit, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of the first epoch, then in the validation after the second."""
    whole = fit()
    monkeypatch.setenv("COLLEGIUM_RUNS", str(tmp_path / "killed"))
    killed = tmp_path / "killed" / "moons" / "default" / "1"
    kill_at("train 5", tmp_path / "first")
    assert checkpoint(killed)["global_step"] == 3
    kill_at("validate 16", tmp_path / "second", "--resume")
    assert checkpoint(killed)["global_step"] == 14
    fit("--resume")
    assert differing_weights(killed, whole) == []
    assert differing_weights(killed, whole, "best") == []
    assert (killed / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


@pytest.mark.slow
def test_ctrl_c_keeps_the_run_and_tells_how_to_go_on(toys: Path, tmp_path: Path) -> None:
    process = kill_at("train 5", tmp_path / "diary", by=signal.SIGINT)
    assert process.returncode == 130
    assert process.stdout
    told = process.stdout.read()
    run = toys / "moons" / "default" / "1"
    assert f"go on with `make train APP=moons RESUME=1 RUN={run}`" in told
    assert checkpoint(run)["global_step"] == 3


@pytest.mark.slow
def test_ctrl_c_before_the_first_step_leaves_nothing_and_says_so(toys: Path, tmp_path: Path) -> None:
    process = kill_at("train 0", tmp_path / "diary", by=signal.SIGINT)
    assert process.returncode == 130
    assert process.stdout
    assert "before the first step: nothing was kept" in process.stdout.read()
    assert not (toys / "moons" / "default" / "1").exists()


def kill_at(
    moment: str, diary: Path, *options: str, by: signal.Signals = signal.SIGKILL
) -> subprocess.Popen[str]:
    """Train the toy app in a process of its own, and end it once its diary tells of the moment."""
    command = [sys.executable, "-m", "apps", "moons", "fit", *options]
    command += ["--model.diary", str(diary), "--model.slow", "0.3"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True, preexec_fn=_hears_ctrl_c
    )
    try:
        while not diary.is_file() or f"{moment}\n" not in diary.read_text():
            assert process.poll() is None, f"ended before {moment}"
            time.sleep(0.02)
        process.send_signal(by)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    return process


def _hears_ctrl_c() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_resume_that_fails_changes_nothing(fit: Fit) -> None:
    run = fit("--trainer.max_epochs=1")
    with (run / "metrics.csv").open("a") as file:
        file.write("900,1.0\r\n")  # as of a training that was killed after its last checkpoint
    before = contents(run)
    options = [
        "--resume",
        "--trainer.max_epochs=2",
        "--data.broken=true",
        "--trainer.enable_progress_bar=false",
    ]
    assert main(["moons", "fit", *options]) == 2
    assert contents(run) == before


def contents(run: Path) -> dict[str, bytes]:
    """Return the files of a run but the events, of which each start makes its own."""
    return {str(p): p.read_bytes() for p in run.rglob("*") if p.is_file() and "tfevents" not in p.name}


def test_a_run_in_training_is_not_resumed(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("--trainer.max_epochs=1")
    before = (run / "metrics.csv").read_text()
    with held(Run(run, "moons")):
        assert main(["moons", "fit", "--resume", "--trainer.max_epochs=2"]) == 2
    assert f"error: {run} is being trained by another process" in capsys.readouterr().err
    assert (run / "metrics.csv").read_text() == before
    assert fit("--resume", "--trainer.max_epochs=2") == run
    assert checkpoint(run)["global_step"] == 16


def test_resume_of_a_finished_run_changes_nothing(fit: Fit) -> None:
    run = fit()
    before = checkpoint(run)["state_dict"], (run / "metrics.csv").read_text()
    assert fit("--resume") == run
    after = checkpoint(run)["state_dict"], (run / "metrics.csv").read_text()
    assert str(before) == str(after)


def test_resume_keeps_the_settings_of_the_run_and_can_lengthen_it(fit: Fit) -> None:
    run = fit("--trainer.max_epochs=1", "--model.learning_rate=0.03")
    command = (run / "config.yaml").read_text().partition("\n")[0]
    assert fit("--resume", "--trainer.max_epochs=2") == run
    text = (run / "config.yaml").read_text()
    assert checkpoint(run)["global_step"] == 16
    assert "learning_rate: 0.03" in text
    assert "max_epochs: 2" in text
    assert text.startswith(command)


def test_a_run_killed_before_its_first_checkpoint_begins_again(fit: Fit, toys: Path) -> None:
    whole = fit()
    again = fit()
    shutil.rmtree(again / "checkpoints")
    assert fit("--resume") == again
    assert differing_weights(again, whole) == []
    assert (again / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


def test_another_seed_is_another_training(fit: Fit) -> None:
    assert differing_weights(fit(), fit()) == []
    assert differing_weights(fit("--seed_everything=7"), fit("--seed_everything=8")) != []


def test_training_twice_overwrites_nothing(fit: Fit) -> None:
    first = fit("--trainer.max_epochs=1")
    before = (first / "metrics.csv").stat().st_mtime_ns
    second = fit("--trainer.max_epochs=1")
    assert (first.name, second.name) == ("1", "2")
    assert (first / "metrics.csv").stat().st_mtime_ns == before
