"""best.ckpt and last.ckpt of a run, each written in one step."""

import math
from pathlib import Path
from typing import Any, Literal

import collegium
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from apps.common.callbacks import Settling
from apps.common.discovery import project_root
from apps.common.errors import UserError
from apps.common.restart import finish_restart, position, restore_loaders
from apps.common.revision import commit


class BestCheckpoint(Settling, Checkpoint):
    """Keeps the checkpoint with the best validation metric as checkpoints/best.ckpt.

    Where routers have a schedule, the best of those from after its end, as soon as there is one.

    Args:
        monitor: a metric that the task logs in validation; None keeps the newest, for what learns from a
            stream and does not go back.
        mode: "min" or "max".
    """

    def __init__(self, monitor: str | None = "val/loss", mode: Literal["min", "max"] = "min") -> None:
        super().__init__()
        self.monitor = monitor
        self.sign = 1 if mode == "min" else -1
        self.best = math.inf

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if the monitored metric has improved."""
        if trainer.sanity_checking or _is_trial(trainer) or trainer.state.fn != "fit":
            return
        if self.monitor is None:
            self._keep(trainer)
            return
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            logged = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise UserError(f"best_checkpoint.monitor is {self.monitor!r}, but validation logs {logged}.")
        # Where a task logs what only its own process has seen, all processes go by the first one's value.
        score = self.sign * trainer.strategy.broadcast(float(value))
        if self.settles(pl_module):
            self.best = math.inf
        if score < self.best:
            self.best = score
            self._keep(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what came behind the last validation, if the newest is wanted."""
        if self.monitor is None and not _is_trial(trainer):
            self._keep(trainer)

    def _keep(self, trainer: Trainer) -> None:
        _save(trainer, "best.ckpt.new")
        _publish(trainer, "best.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, as a number to be lowered, and whether schedules were over."""
        return {"best": self.best, "settled": self.settled}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a best value."""
        self.best, self.settled = state_dict["best"], state_dict.get("settled", True)


class LastCheckpoint(Checkpoint):
    """Keeps checkpoints/last.ckpt, from which training goes on as if it had never stopped.

    It is dumped after an optimiser step or at the end of an epoch, and takes its name only once the metrics
    of that moment are on disk, so that a resumed metrics.csv loses no row. No checkpoint is kept from between
    a step and a validation that follows it: the validation would be missing after a restart.

    A restart cannot know the earlier batches of a mean over a training epoch (`log(..., on_epoch=True)` in
    `training_step`): stop early, and choose the best, by a validation metric.

    Args:
        every_n_steps: optimiser steps between two checkpoints inside an epoch; an epoch ends with one anyway.

    Attributes:
        saved_step: the optimiser step of the newest checkpoint.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ValueError(f"last_checkpoint.every_n_steps is {every_n_steps}: use 1 or more")
        self.every_n_steps = every_n_steps
        self._state: dict[str, Any] = {}
        self._pending = False
        self._step = self.saved_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a restart, take up exactly where the interrupted training stood."""
        self._step = self.saved_step = trainer.global_step
        restore_loaders(trainer)
        if self._state.get("step") == trainer.global_step:
            finish_restart(trainer, self._state)
            trainer.should_stop = trainer.should_stop or self._state["stopped"]

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Publish the checkpoint of the batch before."""
        self._publish(trainer)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Dump when due; never between two micro-batches of one optimiser step."""
        stepped, self._step = trainer.global_step > self._step, trainer.global_step
        if stepped and self._step - self.saved_step >= self.every_n_steps and not trainer.is_last_batch:
            self._dump(trainer, trainer.fit_loop.epoch_loop._batches_that_stepped + 1)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give up a checkpoint that does not know of this validation."""
        self._pending = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Dump at the end of each epoch."""
        self._dump(trainer, trainer.fit_loop.epoch_loop._batches_that_stepped)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Publish the checkpoint of the epoch before."""
        self._publish(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Publish the checkpoint of the last epoch."""
        self._publish(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return where training stands: `restart.position`, whether it was stopped early, steps logged."""
        return self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Recall where training stood."""
        self._state = state_dict

    def _dump(self, trainer: Trainer, logged_steps: int) -> None:
        if _is_trial(trainer):
            return
        stopped = trainer.should_stop and bool(trainer.early_stopping_callbacks)
        self._state = {**position(trainer), "stopped": stopped, "logged_steps": logged_steps}
        _save(trainer, "last.ckpt.new")
        self._pending = True

    def _publish(self, trainer: Trainer) -> None:
        if self._pending:
            _publish(trainer, "last.ckpt")
            self.saved_step = self._step
        self._pending = False


def _is_trial(trainer: Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def _save(trainer: Trainer, name: str) -> None:
    trainer.save_checkpoint(_folder(trainer) / name, weights_only=False)


def _publish(trainer: Trainer, name: str) -> None:
    if trainer.is_global_zero:
        (_folder(trainer) / f"{name}.new").replace(_folder(trainer) / name)


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "checkpoints"


class Stamp(Callback):
    """Writes into every checkpoint which app and configuration it belongs to, and what code trained it."""

    def __init__(self, app: str, config: str) -> None:
        self.mark = {
            "app": app,
            "config": config,
            "version": collegium.__version__,
            "commit": commit(project_root()),
        }

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the mark."""
        checkpoint["collegium"] = self.mark
