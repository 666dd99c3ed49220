"""Training with the experts shared out over processes: `--trainer.strategy expert_parallel`."""

from pathlib import Path
from typing import Any, TypeVar

import torch
from collegium.parallel import expert_parallel
from lightning import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

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

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load the parts of this process from a file that any strategy wrote.

        Lightning's own takes the numbers of an optimiser's parameters for those of the model, which have
        another order where weights and biases are groups of their own.
        """
        assert self.model is not None
        assert self.lightning_module is not None
        path = Path(self.broadcast(checkpoint_path))
        checkpoint: dict[str, Any] = torch.load(path, "cpu", weights_only=weights_only, mmap=True)
        options = StateDictOptions(full_state_dict=True, strict=self.lightning_module.strict_loading)
        set_model_state_dict(self.model, checkpoint.pop("state_dict"), options=options)
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=False):
            set_optimizer_state_dict(self.model, optimizer, _named(state, optimizer, names), options=options)
        return checkpoint


def _named(state: dict[str, Any], optimizer: Optimizer, names: dict[nn.Parameter, str]) -> dict[str, Any]:
    """Return the state of an optimiser by names of parameters instead of numbers."""
    known: dict[int, str] = {}
    groups = []
    for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        own = [names[parameter] for parameter in group["params"]]
        known |= zip(saved["params"], own, strict=True)
        groups.append({**saved, "params": own})
    return {
        "state": {known[number]: value for number, value in state["state"].items()},
        "param_groups": groups,
    }


StrategyRegistry.register(
    NAME, ExpertParallelStrategy, "shares experts out, the rest by FSDP2", override=True
)


def share_out(task: LightningModule) -> None:
    """Share the experts of a task out over its device mesh, and shard the rest with FSDP2.

    Raises `UserError` where the experts cannot be shared out, or the task has weights that no module holds.
    """
    meshes = task.device_mesh
    assert meshes is not None
    if meshes["tensor_parallel"].size() > 1:
        raise UserError(f"trainer.strategy splits tensors, which no app can: use {NAME}.")
    if loose := [name for name, _ in task.named_parameters(recurse=False)]:
        raise UserError(f"trainer.strategy cannot shard {loose[0]}: put it into a module of the task.")
    mesh = meshes["data_parallel"]
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
