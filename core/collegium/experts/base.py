"""What every block of experts shares."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Experts(nn.Module, ABC):
    """All experts of a layer at once.

    Attributes:
        num_experts: E.
        item_ndim: how many last dims of the layer's input are one item (1: a vector).
        needs: names of the Context fields that ``forward`` wants by row, as keyword arguments.

    Shapes:
        x (A, \\*item) sorted by expert, counts (E,) or one int -> (A, \\*out).
    """

    item_ndim: int = 1
    needs: tuple[str, ...] = ()

    def __init__(self, num_experts: int) -> None:
        super().__init__()
        if num_experts < 1:
            raise ValueError(f"{type(self).__name__} wants at least one expert")
        self.num_experts = num_experts

    @abstractmethod
    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Run every expert on its rows."""


def rows_of(counts: Tensor | int, num_experts: int) -> list[int]:
    """Rows of each expert as a list."""
    return counts.tolist() if isinstance(counts, Tensor) else [counts] * num_experts
