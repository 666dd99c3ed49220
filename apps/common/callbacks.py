"""Callbacks of every training: seeds, balancing by bias, and what the routers did."""

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from collegium import Routing, inspection, record
from collegium.balance import BiasBalance
from collegium.layer import moe_layers
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from apps.common.errors import UserError
from apps.common.loaders import derive_seed, seed_all


class SeedEachStep(Callback):
    """Seeds every random generator before each training batch from (seed, epoch, batch, rank).

    Dropout and router noise are then the same after a restart as without one.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed for this batch."""
        seed_all(derive_seed(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))


class EpochLines(Callback):
    """Tells each epoch in a line, where no progress bar can be drawn, as in a log file."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Print epoch, step, metrics and time."""
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics.items()
        told = [
            f"{name} {float(value):.4g}" for name, value in metrics if name.startswith(("train/", "val/"))
        ]
        epochs = f"/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
        head = f"epoch {trainer.current_epoch + 1}{epochs}, step {trainer.global_step}"
        seconds = f"{time.perf_counter() - self._start:.0f} s"
        print(", ".join([head, *told, seconds]), flush=True)


class Annealing(Callback):
    """Moves the schedules of routers that have one, such as DenseToSparse, as training goes on.

    Args:
        until: the share of training at which the schedules end; what is left trains as the model will be
            used.
    """

    def __init__(self, until: float = 0.8) -> None:
        if not 0 < until <= 1:
            raise ValueError(f"Annealing: until={until} must lie in (0, 1]")
        self.until = until

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Tell each router how much of its schedule is over."""
        share = min(1.0, progress(trainer) / self.until)
        for layer in moe_layers(module).values():
            layer.router.anneal(share)


def progress(trainer: Trainer) -> float:
    """Return the share of a training's optimiser steps that is over; 0 where their number is not known."""
    steps = float(trainer.estimated_stepping_batches)
    return 0.0 if math.isinf(steps) else min(1.0, trainer.global_step / max(steps, 1))


class BiasBalancing(Callback):
    """Balances by a bias on the routers' choice instead of by a loss (see `collegium.balance.BiasBalance`).

    Args:
        rate: the step of the bias, once an optimiser step.
        rest: the last share of training in which biases rest.
    """

    def __init__(self, rate: float = 1e-3, rest: float = 0.0) -> None:
        self.rate, self.rest = rate, rest

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Find the routers. Raises `UserError` where one has no bias to move."""
        try:
            self._balance = BiasBalance(module, self.rate, self.rest)
        except ValueError as error:
            raise UserError(f"BiasBalancing cannot be used here: {error}.") from error
        self._recorder = Recorder()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Take up the step of the checkpoint."""
        self._step = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Record the routings of the batch."""
        self._recorder.start(module)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Count the loads, and move the biases if the optimiser has stepped."""
        self._balance.observe(self._recorder.stop())
        if trainer.global_step > self._step:
            self._balance.step(progress(trainer))
        self._step = trainer.global_step


class RoutingMonitor(Callback):
    """Logs for each MoE layer, over the whole of each validation, how its experts were used.

    - `routing/<layer>/load_<e>`: the share of assignments that chose expert e.
    - `routing/<layer>/max_violation`: how far the most used expert lies above even load; 0 is even.
    - `routing/<layer>/entropy`: how undecided the router is; 0 is sure, 1 knows nothing.
    """

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin to count."""
        self._recorder = Recorder()
        self._usage: dict[str, Usage] = defaultdict(Usage)

    def on_validation_batch_start(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Record the routings of the batch."""
        self._recorder.start(_network(module))

    def on_validation_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Count the batch."""
        for layer, calls in self._recorder.stop().items():
            self._usage[layer].add(calls)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Log the figures."""
        for layer, usage in self._usage.items():
            for name, value in usage.figures().items():
                module.log(f"routing/{layer or 'network'}/{name}", value, sync_dist=True)


class Usage:
    """How the experts of one layer were used, summed over calls."""

    def __init__(self) -> None:
        self.demand: Tensor | None = None
        self.entropy = 0.0
        self.tokens = 0

    def add(self, calls: Sequence[Routing]) -> None:
        """Count the routings of one layer."""
        for routing in calls:
            demand = routing.demand.double()
            self.demand = demand if self.demand is None else self.demand + demand
            tokens = routing.num_tokens if routing.mask is None else int(routing.mask.sum())
            if tokens and routing.probs is not None:
                self.entropy += inspection.entropy(routing) * tokens
                self.tokens += tokens

    @property
    def load(self) -> Tensor:
        """(E,) share of the assignments that chose each expert."""
        demand = torch.zeros(1) if self.demand is None else self.demand
        return demand / demand.sum().clamp(min=1)

    def figures(self) -> dict[str, float]:
        """Return the figures by name."""
        loads = {f"load_{expert}": float(share) for expert, share in enumerate(self.load)}
        entropy = {"entropy": self.entropy / self.tokens} if self.tokens else {}
        return {**loads, "max_violation": inspection.max_violation(self.load), **entropy}


class Recorder:
    """`collegium.record` as two calls, for hooks that start and stop in different places."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._routings: dict[str, list[Routing]] = {}

    def start(self, model: nn.Module) -> None:
        """Record from now on."""
        self._stack.close()
        self._routings = self._stack.enter_context(record(model))

    def stop(self) -> dict[str, list[Routing]]:
        """Stop, and return layer name -> routings."""
        self._stack.close()
        routings, self._routings = self._routings, {}
        return routings


def _network(module: LightningModule) -> nn.Module:
    network = getattr(module, "network", module)
    return network if isinstance(network, nn.Module) else module
