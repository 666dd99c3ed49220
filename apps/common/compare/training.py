"""Training a network for an arm."""

import tempfile
from pathlib import Path

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from apps.common.callbacks import Annealing, SeedEachStep, Settling
from apps.common.task import MoETask


class Best(Settling, ModelCheckpoint):
    """Lightning's, but no epoch from before the end of the routers' schedules outdoes one from after."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what was best when the schedules end."""
        if self.settles(pl_module):
            self.best_k_models.clear()
        super().on_validation_end(trainer, pl_module)


def fit_best(task: MoETask, data: LightningDataModule, epochs: int, seed: int) -> float:
    """Train, leave the task as after the epoch of least `val/loss`, in evaluation, and return that loss.

    Where routers have a schedule, the least from after its end. On one CPU, as costs are told for one thread;
    gradients are clipped at norm 1.
    """
    with tempfile.TemporaryDirectory() as folder:
        best = Best(folder, monitor="val/loss", save_weights_only=True)
        Trainer(
            max_epochs=epochs,
            gradient_clip_val=1.0,
            callbacks=[best, Annealing(), SeedEachStep(seed)],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        ).fit(task, data)
        state = torch.load(Path(best.best_model_path), weights_only=True)["state_dict"]
    task.load_state_dict(state)
    task.eval().cpu()
    return float(best.best_model_score)  # type: ignore[arg-type]
