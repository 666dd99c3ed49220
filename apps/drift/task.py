"""Learning from a stream: predict, then learn, a chunk of rows at a time."""

from typing import Any

from torch import Tensor

from apps.common.errors import UserError
from apps.common.task import MoETask
from apps.drift.data import Batch
from apps.drift.history import History
from apps.drift.model import StreamModel, log_loss

LATE = 64
"""Chunks of which the running accuracy tells."""


class Task(MoETask):
    """Runs a stream model over a stream, once, and keeps a history of it.

    Validation measures the rows that come next. A stream wants the newest checkpoint and not the best one:
    `best_checkpoint: {monitor: null}`.

    Args:
        network: the model; it is built when the stream is known.
        balance: terms and their weights, as in MoETask; none by default.
        learning_rate, weight_decay, warmup_steps, final_fraction: see MoETask; the rate stays as it is by
            default, as nobody knows when a stream ends.
    """

    network: StreamModel

    def __init__(
        self,
        network: StreamModel,
        balance: dict[str, float | dict[str, Any]] | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        final_fraction: float = 1.0,
    ) -> None:
        super().__init__(network, balance or {}, learning_rate, weight_decay, warmup_steps, final_fraction)
        if self.consistency:
            raise ValueError(
                "model.balance: consistency wants a second pass over each batch, and a stream is learned "
                "once: take it out"
            )
        self.history = History()

    def setup(self, stage: str) -> None:
        """Build the network for the stream."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            return
        if stage == "fit" and self.trainer.max_epochs != 1:
            raise UserError(
                f"trainer.max_epochs is {self.trainer.max_epochs}, and a stream is learned once: what was "
                "learned from a row must not predict it. Leave it at 1."
            )
        self.build_network(self.network.build, len(data.features), data.labels.capacity)
        if stage == "fit" and isinstance(often := self.trainer.val_check_interval, int):
            self.trainer.val_check_interval = min(often, len(data.train_dataloader()))  # a short stream
        built = self.network.features, self.network.classes
        if built != (found := (len(data.features), data.labels.capacity)):
            raise UserError(
                f"{data.source} has {found[0]} features and {found[1]} classes, the network was made for "
                f"{built[0]} and {built[1]}: train another on this stream."
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Predict the rows of one chunk, then learn them."""
        x, y, group = batch
        found, penalty = self.with_balance(self.network.learn, x, y, group)
        self.history.add(y, found.probs, found.said, found.trust, group, **found.notes)
        self.log("train/objective", found.loss.detach())
        self.log("train/accuracy", self.history.accuracy(LATE), prog_bar=True)
        loss = found.loss + penalty
        return loss if loss.requires_grad else None

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict the rows that come next."""
        self._measure(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict the last rows."""
        self._measure(batch, "test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history and the size of the network."""
        checkpoint["history"] = self.history.state()
        checkpoint["size"] = (self.network.features, self.network.classes)
        checkpoint["expert_names"] = self.network.expert_names

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the network, so that there is something to fill."""
        self.build_network(self.network.build, *checkpoint["size"])
        self.history.load(checkpoint["history"])

    def _measure(self, batch: Batch, part: str) -> None:
        x, y, _ = batch
        probs = self.network(x)
        self.log(f"{part}/loss", log_loss(probs, y), batch_size=len(y))
        self.log(f"{part}/accuracy", (probs.argmax(1) == y).float().mean(), batch_size=len(y), prog_bar=True)
