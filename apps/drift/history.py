"""What was said of every row of a stream, and whom the router trusted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

COLUMNS = ("label", "predicted", "said", "trust")


class History:
    """Grows with the stream.

    After `table`: label (N,) and predicted (N,) int16; said (N, E) int16, each expert's first choice; trust
    (N, E) float16, the router's weights.
    """

    def __init__(self) -> None:
        self._parts: dict[str, list[Tensor]] = {name: [] for name in COLUMNS}

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts["label"])

    def add(self, label: Tensor, probs: Tensor, said: Tensor, trust: Tensor) -> None:
        """Note rows: label (B,), probs (B, C), said (B, E, C), trust (B, E)."""
        noted = {
            "label": label.to(torch.int16),
            "predicted": probs.argmax(1).to(torch.int16),
            "said": said.argmax(2).to(torch.int16),
            "trust": trust.to(torch.float16),
        }
        for name, part in noted.items():
            self._parts[name].append(part.cpu())

    def accuracy(self, chunks: int) -> float:
        """The share of right predictions in the last chunks."""
        label, predicted = (torch.cat(self._parts[name][-chunks:]) for name in ("label", "predicted"))
        return float((label == predicted).float().mean())

    def table(self) -> dict[str, np.ndarray]:
        """Everything so far."""
        return {name: torch.cat(parts).numpy() for name, parts in self._parts.items() if parts}

    def state(self) -> dict[str, Any]:
        """Return tensors that `load` reads back."""
        return {name: torch.cat(parts) for name, parts in self._parts.items() if parts}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self._parts = {name: [state[name]] if name in state else [] for name in COLUMNS}
