"""Training a classifier: loss and logged metrics."""

from typing import Any

from collegium.balance import consistency
from torch import Tensor

from apps.common.errors import UserError
from apps.common.task import MoETask
from apps.common.template.metrics import hits, log_loss
from apps.common.template.model import Classifier

Batch = tuple[Tensor, Tensor]


class Task(MoETask):
    """Cross-entropy plus the balance terms. Validation logs `val/loss` and `val/accuracy`.

    Args:
        network: the classifier.
        balance, learning_rate, weight_decay, warmup_steps, final_fraction: see MoETask.
    """

    def __init__(
        self,
        network: Classifier,
        balance: dict[str, float | dict[str, Any]] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
        final_fraction: float = 0.0,
    ) -> None:
        super().__init__(network, balance, learning_rate, weight_decay, warmup_steps, final_fraction)
        self.sizes = {"features": network.features, "classes": network.classes}

    def setup(self, stage: str) -> None:
        """Refuse data that the network cannot read."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            found = {"features": len(data.features), "classes": len(data.classes)}
            check_sizes(data.source, found, self.sizes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        x, label = batch
        logits, penalty = self.forward_with_balance(x)
        loss = log_loss(logits, label).mean()
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss + penalty

    def disagreement(self, output: Tensor, other: Tensor) -> Tensor:
        """Tell how far apart the classes of two passes are (THOR)."""
        return consistency(output, other)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and accuracy of validation rows."""
        self._measure(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on test rows."""
        self._measure(batch, "test")

    def _measure(self, batch: Batch, part: str) -> None:
        x, label = batch
        logits = self.network(x)
        self.log(f"{part}/loss", log_loss(logits, label).mean(), batch_size=len(x))
        self.log(f"{part}/accuracy", hits(logits, label).mean(), batch_size=len(x), prog_bar=True)


def check_sizes(source: str, found: dict[str, int], expected: dict[str, int]) -> None:
    """Raise UserError where the data has other sizes than the network expects."""
    for name, size in found.items():
        if size != expected[name]:
            raise UserError(
                f"{source} has {size} {name}, the network is made for {expected[name]}: "
                f"set --model.network.init_args.{name} {size}."
            )
