"""Callbacks of every training: seeds, balancing by bias, and what the routers did."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from collegium import Routing, record
from collegium.balance import BiasBalance
from collegium.layer import moe_layers
from collegium.routers.schedule import Schedule
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from apps.common.errors import UserError
from apps.common.files import write_text
from apps.common.loaders import derive_seed, seed_all
from apps.common.probe import Probe, Rows, drift, locality
from apps.common.usage import Usage


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


class Settling:
    """Tells when the schedules of all routers end, for callbacks that keep the best: before, a network is
    another one.

    Attributes:
        settled: whether none is under way; also where no router has one.
    """

    settled = True

    def settles(self, module: nn.Module) -> bool:
        """Return whether they have ended since the last call."""
        before = self.settled
        self.settled = all(part.over for part in module.modules() if isinstance(part, Schedule))
        return self.settled and not before


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
    - `routing/<layer>/dead_experts`: how many have less than a hundredth of the even load.
    - `routing/<layer>/entropy`: how undecided the router is; 0 is sure, 1 knows nothing.

    Experts that every token has (`FixedPlusRouted`) count in the loads, but not in max violation nor among
    the dead.

    And of a sample of whole sequences, which the first process has seen:

    - `routing/<layer>/drift_experts`, `drift_probs`: how far the routing of the same tokens moved since the
      validation before, which takes the same rows in the same order (see `collegium.inspection.drift`).
    - `routing/<layer>/srp`, `sch`: whether neighbours in a sequence keep to the same experts.

    In a training it also keeps tables in `routing.json` and in every checkpoint: drift and local consistency,
    which experts are chosen together, and which expert serves which task, domain or label of the routings'
    context, with the interval of that specialisation. With several processes they hold what the first one has
    seen.

    Args:
        folder: of the run, for `routing.json`; None keeps no tables.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.tables: dict[str, Any] = {}
        self._seen: dict[str, Rows] = {}

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin to count."""
        self._recorder = Recorder()
        self._batch = 0
        self._usage: dict[str, Usage] = defaultdict(Usage)
        self._probes: dict[str, Probe] = defaultdict(Probe)

    def on_validation_batch_start(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Record the routings of the batch."""
        self._recorder.start(_network(module))

    def on_validation_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """Count the batch."""
        for layer, calls in self._recorder.stop().items():
            self._usage[layer].add(calls, self._batch)
            if calls and trainer.is_global_zero:
                self._probes[layer].add(calls[0], self._batch)
        self._batch += 1

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Log the figures, and keep the tables."""
        for layer, usage in self._usage.items():
            # of all processes together, and so the same on each: the mean of sync_dist changes nothing
            _log(module, layer, usage.figures(partial(_total, trainer, module)), sync_dist=True)
        if not trainer.is_global_zero:
            return
        seen = {layer: probe.rows() for layer, probe in self._probes.items()}
        followed = _followed({} if trainer.sanity_checking else self._seen, seen)
        for layer, found in followed.items():
            moved = {f"drift_{name}": value for name, value in found.get("drift", {}).items()}
            kept = {name: found["locality"][name] for name in ("srp", "sch") if name in found["locality"]}
            # also in a sanity check: what it logs leads the columns of metrics.csv; where one process alone
            # logs sync_dist exchanges nothing, but keeps Lightning from advising it
            _log(module, layer, moved | kept, rank_zero_only=True, sync_dist=True)
        if trainer.sanity_checking:
            return
        self._seen = seen
        if self.folder and self._usage:
            layers = {
                layer or "network": usage.tables() | followed.get(layer, {})
                for layer, usage in self._usage.items()
            }
            self.tables = {"step": trainer.global_step, "layers": layers}
            write_text(self.folder / "routing.json", json.dumps(self.tables))

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the tables of the newest validation, and the routings that the next one is compared with."""
        checkpoint["routing"], checkpoint["routing_seen"] = self.tables, self._seen

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take them up."""
        self.tables, self._seen = checkpoint.get("routing", {}), checkpoint.get("routing_seen", {})


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


def _log(module: LightningModule, layer: str, figures: Mapping[str, float], **options: Any) -> None:
    for name, value in figures.items():
        module.log(f"routing/{layer or 'network'}/{name}", value, **options)


def _total(trainer: Trainer, module: LightningModule, own: Tensor) -> Tensor:
    """Sum of what each process has counted."""
    if trainer.world_size == 1:
        return own
    total = trainer.strategy.reduce(own.to(module.device), reduce_op="sum")
    assert isinstance(total, Tensor)
    return total.cpu()


def _followed(before: Mapping[str, Rows], after: Mapping[str, Rows]) -> dict[str, dict[str, Any]]:
    """Return layer -> drift since the validation before, where there was one, and local consistency."""
    return {
        layer: {
            **({"drift": drift(before[layer], rows)} if layer in before else {}),
            "locality": locality(rows),
        }
        for layer, rows in after.items()
    }
