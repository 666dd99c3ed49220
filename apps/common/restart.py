"""What Lightning leaves undone when it restarts a training from a checkpoint."""

from typing import Any

from lightning import Trainer
from lightning.pytorch.loops.loop import _Loop


def position(trainer: Trainer) -> dict[str, Any]:
    """Return what a restart has to know besides Lightning's own state."""
    progress: Any = trainer.fit_loop.epoch_progress.current
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {
        "step": trainer.global_step,
        "epoch_ended": progress.processed == progress.ready,
        "metrics": metrics,
    }


def restore_loaders(trainer: Trainer) -> None:
    """Tell the training loaders at which batch to begin, where Lightning has not.

    It does not where it made the loaders before it read the checkpoint, as it does for a schedule that asks
    for the number of steps.
    """
    loop = trainer.fit_loop
    if loop._combined_loader is not None:
        loop._combined_loader._load_state_dicts(loop._combined_loader_states_to_load)
        loop._combined_loader_states_to_load = []


def finish_restart(trainer: Trainer, state: dict[str, Any]) -> None:
    """Bring a trainer that was restored from a checkpoint to where the interrupted one stood.

    Call it when training starts, with what `position` returned at the checkpoint.
    """
    if state["epoch_ended"]:
        _leave_epoch(trainer)
    _step_plateau_schedules(trainer, state)


def _leave_epoch(trainer: Trainer) -> None:
    """Begin the next epoch: with `max_steps`, Lightning would repeat the end of the finished one."""
    loop = trainer.fit_loop
    progress: Any = loop.epoch_progress.current
    if progress.completed < progress.processed:
        loop.epoch_progress.increment_completed()
    _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
    loop.reset_restart_stage()
    loop.epoch_loop.reset_restart_stage()


def _step_plateau_schedules(trainer: Trainer, state: dict[str, Any]) -> None:
    """Step the schedules that follow a metric: they step after the checkpoint is taken."""
    # Lightning skips them too at the end of an epoch resumed in its middle, unless told that it was not.
    trainer.fit_loop._restarting = False
    trainer.callback_metrics.update(state["metrics"])
    interval = "epoch" if state["epoch_ended"] else "step"
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    count = trainer.current_epoch if state["epoch_ended"] else batches
    for config in trainer.lr_scheduler_configs:
        due = config.reduce_on_plateau and config.interval == interval and count % config.frequency == 0
        if due and config.monitor in state["metrics"]:
            config.scheduler.step(state["metrics"][config.monitor])
