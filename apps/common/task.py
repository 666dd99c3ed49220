"""The LightningModule that every app's task extends: balance terms, optimiser, schedule."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from collegium import record
from collegium.layer import moe_layers
from lightning import Callback, LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from apps.common.balance_term import BalanceTerm
from apps.common.callbacks import BiasBalancing
from apps.common.errors import UserError
from apps.common.expert_parallel import share_out


class MoETask(LightningModule):
    """Trains `network` with AdamW, a linear warm-up, and a cosine down to `final_fraction` of the rate.

    A subclass writes `training_step` and `validation_step` (which logs `val/loss`, the value that picks the
    best checkpoint), and calls `forward_with_balance` in place of the network to get the balance penalty too.

    Args:
        network: the model; its MoE layers are found by the routings they give.
        balance: term -> weight, or {weight: ..., and the term's arguments}; load_balance: 0.01 by default. A
            name is looked up in `collegium.balance`, a dotted path is imported. Each term is a function of
            the recorded routings (layer name -> list) to a scalar, or a class whose instances are: these are
            kept, and told to `step()` once an optimiser step. `consistency`, for random experts, has a weight
            alone: a second pass over each training batch is to agree with the first (see `disagreement`).
            `BiasBalance` is no loss: its number is the rate at which biases of the routers move.
        learning_rate: the peak rate.
        weight_decay: decay of the weights with two or more dimensions; biases and norms have none.
        warmup_steps: optimiser steps of the linear warm-up.
        final_fraction: the rate at the last step, as a fraction of the peak.

    Raises:
        ValueError: a name in `balance` that is no term, or arguments that a term does not take or misses.
    """

    def __init__(
        self,
        network: nn.Module,
        balance: dict[str, float | dict[str, Any]] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
        final_fraction: float = 0.0,
    ) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is an instance of `nn.Module`.*")
            self.save_hyperparameters(logger=False)
        for name in [name for name, value in self.hparams.items() if not _is_plain(value)]:
            del self.hparams[name]  # built in Python, not from a file: only plain values go into a checkpoint
        self.network = network
        terms = {"load_balance": 0.01} if balance is None else dict(balance)
        self.consistency = consistency_weight(terms.pop("consistency", 0.0))
        self.bias_balancing = bias_balancing(network, terms.pop("BiasBalance", None))
        self.balance = [BalanceTerm.of(name, value) for name, value in terms.items()]
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.final_fraction = final_fraction
        self._stepped = 0

    def forward_with_balance(self, *args: Any, **kwargs: Any) -> tuple[Any, Tensor]:
        """Run the network and return (its output, the penalty); see `with_balance`."""
        return self.with_balance(self.network, *args, **kwargs)

    def with_balance(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, Tensor]:
        """Run a function of the network and return (its output, the weighted sum of the balance terms).

        The penalty is zero for a network without MoE layers. Each term is logged as `balance/<name>`.
        """
        with record(self.network) as routings:
            output = function(*args, **kwargs)
        penalty = torch.zeros((), device=self.device)
        for term in self.balance if any(routings.values()) else []:
            try:
                value = term.function(routings)
            except ValueError as error:
                raise UserError(f"model.balance: {term.name}: {error}.") from error
            penalty = penalty + self._weighed(term.name, term.weight, value)
        if self.consistency and self._is_training:
            value = self.disagreement(output, function(*args, **kwargs))
            penalty = penalty + self._weighed("consistency", self.consistency, value)
        return output, penalty

    def build_network(self, build: Callable[..., None], *sizes: Any) -> None:
        """Build a network that has its sizes from the data, by its function, and let its routers keep a bias,
        if `balance` asks for it.

        Raises UserError for sizes that do not fit, and for a router that knows no bias.
        """
        try:
            build(*sizes)
        except ValueError as error:
            raise UserError(f"model.network: {error}.") from error
        if self.bias_balancing is not None:
            try:
                keep_biases(self.network)
            except ValueError as error:
                raise UserError(f"{error}.") from error

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log as Lightning does; what is measured outside training is that of all processes together."""
        kwargs.setdefault("sync_dist", not self._is_training)
        super().log(name, value, *args, **kwargs)

    def _weighed(self, name: str, weight: float, value: Tensor) -> Tensor:
        if self._is_training:
            self.log(f"balance/{name}", value.detach())
        return weight * value

    @property
    def _is_training(self) -> bool:
        return self._trainer is not None and self.trainer.training

    def disagreement(self, output: Any, other: Any) -> Tensor:
        """Tell how far apart two outputs of the balanced function for the same batch are, a scalar.

        Raises:
            UserError: the app does not say.
        """
        raise UserError(
            "model.balance: this app does not say how far apart two of its predictions are: take consistency "
            f"out, or give {type(self).__name__} a disagreement()."
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Tell terms that count when an optimiser step has come."""
        if self.global_step > self._stepped:
            for term in self.balance:
                if hasattr(term.function, "step"):
                    term.function.step()
        self._stepped = self.global_step

    def configure_model(self) -> None:
        """Share the experts out over processes, if the strategy asks for it."""
        if self._trainer is not None and isinstance(self.trainer.strategy, ModelParallelStrategy):
            share_out(self)

    def configure_callbacks(self) -> list[Callback]:
        """Return what moves the biases, if `balance` asks for it."""
        return [] if self.bias_balancing is None else [self.bias_balancing]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with the schedule, one step an optimiser step."""
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate_factor(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        total = self._total_steps()
        if math.isinf(total):
            return 1.0
        progress = min(1.0, (step - self.warmup_steps) / max(1, total - self.warmup_steps))
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    def _total_steps(self) -> float:
        return self.trainer.estimated_stepping_batches


def consistency_weight(value: float | dict[str, Any]) -> float:
    """Return the weight of the two passes' disagreement. Raises ValueError for anything but a weight."""
    weight = value.get("weight") if isinstance(value, dict) and len(value) == 1 else value
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
        raise ValueError(f"model.balance gives consistency {value!r}: give it a weight of 0 or more, alone")
    return float(weight)


def bias_balancing(network: nn.Module, value: float | dict[str, Any] | None) -> BiasBalancing | None:
    """Return what balances by biases, and let the routers keep one.

    Raises ValueError for anything but a rate, or {rate: ..., rest: ...}, and for a router that knows no bias.
    """
    if value is None:
        return None
    options = value if isinstance(value, dict) else {"rate": value}
    if not set(options) <= {"rate", "rest"} or not all(
        type(number) in (int, float) and number >= 0 for number in options.values()
    ):
        raise ValueError(
            f"model.balance gives BiasBalance {value!r}: give it a rate of 0 or more, "
            "or {rate: ..., rest: ...}"
        )
    keep_biases(network)
    return BiasBalancing(**options)


def keep_biases(network: nn.Module) -> None:
    """Let the routers of a network keep a bias. Raises ValueError for one that knows none."""
    for layer in moe_layers(network).values():
        try:
            layer.router.keep_bias()
        except ValueError as error:
            raise ValueError(f"model.balance: BiasBalance: {error}") from error


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(v) for v in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)
