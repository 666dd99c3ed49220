"""Training with the experts shared out over processes: `--trainer.strategy expert_parallel`."""

from pathlib import Path
from typing import TypeVar

from collegium.parallel import expert_parallel
from lightning import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from apps.common.errors import UserError

NAME = "expert_parallel"
Task = TypeVar("Task", bound=LightningModule)


class ExpertParallelStrategy(ModelParallelStrategy):
    """Lightning's strategy where every process reads rows of its own, and a checkpoint is one whole file."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Begin, with as many shares of the data as processes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


StrategyRegistry.register(NAME, ExpertParallelStrategy, "experts shared out, all else by FSDP2", override=True)


def share_out(task: LightningModule) -> None:
    """Share the experts of a task out over its device mesh, and shard the rest with FSDP2.

    Raises `UserError` where the experts cannot be shared out, or the task has weights that no module holds.
    """
    if task.device_mesh["tensor_parallel"].size() > 1:
        raise UserError(f"trainer.strategy splits tensors, which no app can: use {NAME}.")
    if loose := [name for name, _ in task.named_parameters(recurse=False)]:
        raise UserError(f"trainer.strategy cannot shard {loose[0]}: put it into a module of the task.")
    mesh = task.device_mesh["data_parallel"]
    try:
        experts = expert_parallel(task, mesh)
    except ValueError as error:
        raise UserError(f"trainer.strategy: {error}.") from error
    for module in task.children():
        if any(True for _ in module.parameters()) and not isinstance(module, FSDPModule):
            fully_shard(module, mesh=mesh, ignored_params=experts)


def whole(task: Task, checkpoint: Path) -> Task:
    """Return a task that one process can run: itself, or if it is shared out, one made of a checkpoint."""
    if not any(isinstance(parameter, DTensor) for parameter in task.parameters()):
        return task
    return type(task).load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
