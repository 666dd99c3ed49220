"""How good a classification is."""

from torch import Tensor
from torch.nn import functional as F


def hits(logits: Tensor, label: Tensor) -> Tensor:
    """(B,) 1 where the top logit of (B, C) is that of the label (B,), else 0: the mean is the accuracy."""
    return (logits.argmax(-1) == label).float()


def log_loss(logits: Tensor, label: Tensor) -> Tensor:
    """(B,) minus the log probability of the label, in nats."""
    return F.cross_entropy(logits, label, reduction="none")
