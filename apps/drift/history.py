"""What was said of every row of a stream, and whom the router trusted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class History:
    """Grows with the stream.

    After `table`: label (N,), predicted (N,) and group (N,) int16; said (N, E) int16, each expert's first
    choice; trust (N, E) float16, the router's weights; and what else the model notes of its rows, float16.
    """

    def __init__(self) -> None:
        self._parts: dict[str, list[Tensor]] = {}

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts.get("label", []))

    def add(
        self,
        label: Tensor,
        probs: Tensor,
        said: Tensor,
        trust: Tensor,
        group: Tensor | None = None,
        **notes: Tensor,
    ) -> None:
        """Note rows: label (B,), probs (B, C), said (B, E, C), trust (B, E), group (B,), notes (B, *).

        Without groups all rows are of group 0.
        """
        group = torch.zeros_like(label) if group is None else group
        noted = {
            "label": label.to(torch.int16),
            "predicted": probs.argmax(1).to(torch.int16),
            "said": said.argmax(2).to(torch.int16),
            "trust": trust.to(torch.float16),
            "group": group.to(torch.int16),
            **{name: note.to(torch.float16) for name, note in notes.items()},
        }
        for name, part in noted.items():
            self._parts.setdefault(name, []).append(part.cpu())

    def accuracy(self, chunks: int) -> float:
        """The share of right predictions in the last chunks."""
        label, predicted = (torch.cat(self._parts[name][-chunks:]) for name in ("label", "predicted"))
        return float((label == predicted).float().mean())

    def table(self) -> dict[str, np.ndarray]:
        """Everything so far."""
        return {name: torch.cat(parts).numpy() for name, parts in self._parts.items()}

    def state(self) -> dict[str, Any]:
        """Return tensors that `load` reads back."""
        return {name: torch.cat(parts) for name, parts in self._parts.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self._parts = {name: [column] for name, column in state.items()}
