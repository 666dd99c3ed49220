"""Two processes that share the experts out train what two processes with all the experts train."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from collegium import MoE, experts, routers
from torch import nn

from apps.common.discovery import app_module
from apps.common.errors import UserError
from apps.common.expert_parallel import NAME, share_out
from apps.common.runs import Run, load_checkpoint
from apps.common.task import MoETask
from tests.apps.common.helpers import TOY, checkpoint

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The toy app trained with and without, and each trained on with the other's checkpoint."""
    root = tmp_path_factory.mktemp("parallel")
    told = {"COLLEGIUM_APPS": str(TOY / "toys"), "COLLEGIUM_RUNS": str(root), "OMP_NUM_THREADS": "1"}

    def fit(strategy: str, *options: str) -> Path:
        two = ["--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.gradient_clip_val=0.2"]
        command = [sys.executable, "-m", "apps", "moons", "fit", f"--trainer.strategy={strategy}", *two]
        done = subprocess.run(
            [*command, *options], cwd=ROOT, env=os.environ | told, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, done.stderr
        return max((root / "moons" / "default").iterdir(), key=lambda path: int(path.name))

    first = {name: fit(name) for name in ("ddp", NAME)}
    last = {name: f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}" for name, run in first.items()}
    longer = "--trainer.max_epochs=4"
    return first | {"back": fit("ddp", last[NAME], longer), "forth": fit(NAME, last["ddp"], longer)}


def weights(run: Path, name: str) -> dict[str, Any]:
    return dict(checkpoint(run, name)["state_dict"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best", "last"])
def test_weights_are_those_of_whole_experts(name: str, runs: dict[str, Path]) -> None:
    whole, shared = weights(runs["ddp"], name), weights(runs[NAME], name)
    assert list(shared) == list(whole)
    torch.testing.assert_close(shared, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_is_one_whole_file(runs: dict[str, Path], toys: Path) -> None:
    run = Run(runs[NAME], "moons")
    state = load_checkpoint(run.best, "moons")["state_dict"]
    task = app_module("moons", "task").Task.load_from_checkpoint(run.best, map_location="cpu")
    torch.testing.assert_close(dict(task.state_dict()), dict(state), rtol=0, atol=0)
    assert (run.path / "report.html").is_file()


@pytest.mark.slow
def test_the_load_that_is_logged_is_that_of_both_processes(runs: dict[str, Path]) -> None:
    for run in (runs["ddp"], runs[NAME]):
        table = csv.DictReader((run / "metrics.csv").open())
        row = [row for row in table if row["val/loss"]][-1]
        loads = [float(row[f"routing/mixture/load_{expert}"]) for expert in range(4)]
        assert float(row["routing/mixture/max_violation"]) == pytest.approx(4 * max(loads) - 1, rel=1e-4)


@pytest.mark.slow
def test_training_goes_on_from_the_checkpoint_of_the_other_strategy(runs: dict[str, Path]) -> None:
    back, forth = weights(runs["back"], "last"), weights(runs["forth"], "last")
    torch.testing.assert_close(forth, back, rtol=1e-4, atol=1e-5)
    first = weights(runs["ddp"], "last")
    assert all(not torch.equal(back[name], value) for name, value in first.items())


class Task(MoETask):
    def __init__(self, loose: bool = False) -> None:
        super().__init__(nn.Sequential(MoE(routers.TopK(4, 3), experts.MLP(4, 3, hidden=4))))
        self.scale = nn.Parameter(torch.ones(1)) if loose else None


def ranks(size: int) -> Any:
    return SimpleNamespace(ndim=1, size=lambda: size)


@pytest.mark.parametrize(
    ("task", "tensors", "sentence"),
    [
        (Task(), 2, "splits tensors, which no app can: use expert_parallel"),
        (Task(), 1, "the 3 experts of MLP cannot be shared out evenly over 2 ranks"),
        (Task(loose=True), 1, "cannot shard scale: put it into a module of the task"),
    ],
)
def test_what_cannot_be_shared_out_is_told_in_a_sentence(task: Task, tensors: int, sentence: str) -> None:
    task._device_mesh = {"data_parallel": ranks(2), "tensor_parallel": ranks(tensors)}
    with pytest.raises(UserError, match=rf"^trainer\.strategy.*{sentence}[^\n]*\.$"):
        share_out(task)
