"""What changes in a run folder when training starts, and not before."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from apps.common.files import write_text
from apps.common.metrics_file import MetricsFile


class Opening(Callback):
    """Keeps the configuration, takes back metrics newer than the checkpoint, and tells where the run lies.

    Args:
        folder: the run's.
        config: the content of its config.yaml.
        metrics: its metrics.csv.
        logged_steps: how many steps of an earlier start have their metrics in it; None for a new run.
    """

    def __init__(self, folder: Path, config: str, metrics: MetricsFile, logged_steps: int | None) -> None:
        self.folder, self.config, self.metrics, self.logged_steps = folder, config, metrics, logged_steps

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the folder."""
        write_text(self.folder / "config.yaml", self.config)
        _log_each_epoch(trainer)
        if self.logged_steps is not None:
            self.metrics.keep_before(self.logged_steps)
        print(
            f"Run: {self.folder}" + (f", from step {trainer.global_step}" if trainer.global_step else ""),
            flush=True,
        )


def _log_each_epoch(trainer: Any) -> None:
    """Where an epoch has fewer steps than lie between two rows of metrics, log once an epoch."""
    trainer.log_every_n_steps = max(1, int(min(trainer.num_training_batches, trainer.log_every_n_steps)))


class Events(TensorBoardLogger):
    """TensorBoard events directly in the run folder, and nothing else: config.yaml has the settings.

    Args:
        folder: the run's.
        step: to go on from; later events of an earlier start are not shown.
    """

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder, name="", version="", purge_step=step or None)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    @rank_zero_only
    def save(self) -> None:
        """Flush the events."""
        self.experiment.flush()
