"""Run folders `runs/<app>/<config>/<n>/` and the checkpoints inside them."""

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from apps.common.discovery import project_root
from apps.common.errors import UserError
from apps.common.files import held_folder


def runs_root() -> Path:
    """Return the folder of all runs: `COLLEGIUM_RUNS`, or `runs/` in the checkout."""
    return Path(os.environ.get("COLLEGIUM_RUNS") or project_root() / "runs")


@dataclass(frozen=True)
class Run:
    """One run folder of one app."""

    path: Path
    app: str

    @property
    def config_file(self) -> Path:
        """The resolved configuration of the run."""
        return self.path / "config.yaml"

    def options(self, section: Literal["model", "data"]) -> dict[str, Any]:
        """A section of the resolved configuration."""
        found: dict[str, Any] = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))[section]
        return found

    @property
    def name(self) -> str:
        """What the run is called in titles."""
        return f"{self.app}: {self.path.parent.name}, run {self.path.name}"

    @property
    def metrics_file(self) -> Path:
        """One row a logged step, one column a metric."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder of `best.ckpt` and `last.ckpt`."""
        return self.path / "checkpoints"

    @property
    def has_checkpoint(self) -> bool:
        """Whether training got as far as its first checkpoint."""
        return (self.checkpoints / "last.ckpt").is_file()

    @property
    def last(self) -> Path:
        """The newest checkpoint. Raises `UserError` where there is none yet."""
        return self._existing("last.ckpt")

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation loss, or the newest one where nothing was validated."""
        return self._existing("best.ckpt", "last.ckpt")

    def _existing(self, *names: str) -> Path:
        for name in names:
            if (self.checkpoints / name).is_file():
                return self.checkpoints / name
        raise UserError(
            f"{self.path} holds no checkpoint yet: train it longer, or name another run with --run."
        )


def new_run(app: str, config: str) -> Path:
    """Create the next free folder `runs/<app>/<config>/<n>/` (n counts from 1) and return it.

    Two processes that start at the same moment get two folders.
    """
    parent = runs_root() / app / config
    parent.mkdir(parents=True, exist_ok=True)
    number = max(_numbers(parent), default=0) + 1
    while True:
        try:
            (parent / str(number)).mkdir()
            return parent / str(number)
        except FileExistsError:
            number += 1


def find_run(app: str, run: Path | None = None, config: str | None = None, trained: bool = True) -> Run:
    """Return the run at `run`, or the newest run of `app` (of its configuration `config`, if given).

    Where `trained`, runs without a checkpoint, as one that has just begun, come last.

    Raises `UserError` where there is none.
    """
    if run is not None:
        if not (run / "config.yaml").is_file():
            raise UserError(
                f"{run} is not a run folder (it has no config.yaml): name one below {runs_root() / app}."
            )
        return Run(run, app)
    parent = runs_root() / app
    files = list(parent.glob(f"{config or '*'}/*/config.yaml"))
    if not files:
        where = parent / config if config else parent
        command = f"make train APP={app}" + (f" CONFIG={config}" if config else "")
        raise UserError(f"{where} holds no run yet: train one first with `{command}`.")
    runs = [Run(file.parent, app) for file in files]
    return max(runs, key=lambda run: (trained and run.has_checkpoint, *_age(run)))


def _age(run: Run) -> tuple[int, int]:
    return run.config_file.stat().st_mtime_ns, int(run.path.name)


@contextmanager
def held(run: Run) -> Iterator[None]:
    """Keep a run's folder for this process. Raises `UserError` while another process trains it."""
    with held_folder(run.path, f"{run.path} is being trained by another process: wait for it, or stop it."):
        yield


def load_checkpoint(path: Path, app: str) -> dict[str, Any]:
    """Read a checkpoint of `app` on the CPU, accepting tensors and plain values only.

    Raises `UserError` when the file is missing, truncated, no checkpoint, or belongs to another app.
    """
    import torch  # late: finding a run needs no torch

    if not path.is_file():
        raise UserError(
            f"{path} does not exist: give the path of a checkpoint, or train with `make train APP={app}`."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
        best = path.with_name("best.ckpt")
        other = (
            f"go on from {best} with --ckpt_path"
            if path.name == "last.ckpt" and best.is_file()
            else "use another one"
        )
        raise UserError(f"{path} is damaged or is not a checkpoint: {other}, or train again.") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(
            f"{path} is not a checkpoint of this project: give one from a folder below runs/{app}/."
        )
    owner = checkpoint.get("collegium", {}).get("app")
    if owner != app:
        raise UserError(
            f"{path} belongs to {owner or 'another program'}, not to {app}: give one below runs/{app}/."
        )
    return checkpoint


def _numbers(parent: Path) -> list[int]:
    return [int(path.name) for path in parent.glob("*") if path.name.isdecimal() and path.is_dir()]
