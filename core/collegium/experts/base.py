"""What every block of experts shares."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from collegium.precision import Float32Buffers


class Experts(Float32Buffers, ABC):
    """All experts of a layer at once. Their float buffers stay float32 in a model that is cast to less.

    Args:
        num_experts: E.
        item_ndim: how many last dims of the layer's input are one item; the class's own by default.

    Attributes:
        item_ndim: 1, a vector, unless a class says otherwise.
        needs: names of the Context fields that ``forward`` wants by row, as keyword arguments.
        dim: width of an item's last dim, where the block knows it; a router of another width is refused.

    Shapes:
        x (A, \\*item) sorted by expert, counts (E,) or one int -> (A, \\*out).

    Raises:
        ValueError: num_experts or item_ndim below 1.
    """

    item_ndim: int = 1
    needs: tuple[str, ...] = ()
    dim: int | None = None

    def __init__(self, num_experts: int, item_ndim: int | None = None) -> None:
        super().__init__()
        if num_experts < 1:
            raise ValueError(f"{type(self).__name__} wants at least one expert")
        self.num_experts = num_experts
        if item_ndim is not None:
            self.item_ndim = item_ndim
        if self.item_ndim < 1:
            raise ValueError(f"{type(self).__name__} wants items of at least one dim, not {self.item_ndim}")

    @abstractmethod
    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Run every expert on its rows."""

    def parameters_each(self) -> list[float]:
        """(E) parameters that one row of each expert meets: an equal share, unless a block knows better."""
        return [sum(p.numel() for p in self.parameters()) / self.num_experts] * self.num_experts


def rows_of(counts: Tensor | int, num_experts: int) -> list[int]:
    """Rows of each expert as a list."""
    return counts.tolist() if isinstance(counts, Tensor) else [counts] * num_experts
