"""What a forward pass of a task's network costs, measured on a validation batch."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from collegium import inspection, record
from lightning import LightningDataModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from apps.common.task import MoETask


class Cost(NamedTuple):
    """Parameters, those that a mean token uses and all; and FLOPs of a row of the network's input.

    `flops` is None where validation does not call the network.
    """

    active: int
    total: int
    flops: float | None


def measure_cost(task: MoETask, data: LightningDataModule) -> Cost:
    """Call the network once more as the first batch of a validation calls it first, and count."""
    call = _first_call(task, data)
    if call is None:
        return Cost(*inspection.parameters(task.network), None)
    args, options = move_data_to_device(call, task.device)
    # a validation's tensors are of inference mode alone
    with torch.inference_mode(), record(task.network) as routings:
        flops = inspection.flops(task.network, *args, **options)
    rows = next((len(value) for value in _tensors([args, options]) if value.ndim), 1)
    return Cost(*inspection.parameters(task.network, routings), flops / max(rows, 1))


def _first_call(task: MoETask, data: LightningDataModule) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def keep(network: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if not calls:
            calls.append((args, options))

    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary"), False)
    handle = task.network.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        trainer = Trainer(**quiet, enable_progress_bar=False, limit_val_batches=1)
        trainer.validate(task, datamodule=data, verbose=False)
    finally:
        handle.remove()
    return calls[0] if calls else None


def _tensors(value: Any) -> Iterable[Tensor]:
    """Return the tensors in nested containers, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [found for part in value for found in _tensors(part)] if isinstance(value, list | tuple) else []
