"""What every gate shares, and the plain one."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collegium.context import Context
from collegium.routing import Routing


class Gate(nn.Module, ABC):
    """Scores every expert for every token; a router turns the scores into a choice.

    It is called by a router, in float32 or wider, outside autocast.

    Args:
        dim: width D of a token.
        num_experts: E, the scores a token gets.

    Attributes:
        needs: names of the Context fields without which it cannot score.
        causal: a token's scores depend on no later token of its sequence and on no other sequence.
        blind: scores do not look at a token's vector.

    Shapes:
        tokens (T, D) -> logits (T, E).

    Raises:
        ValueError: a size is not positive.
    """

    needs: tuple[str, ...] = ()
    blind: bool = False

    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__()
        if dim < 1 or num_experts < 1:
            raise ValueError(f"{type(self).__name__} wants dim and num_experts of at least 1")
        self.dim = dim
        self.num_experts = num_experts
        self.causal = True

    @abstractmethod
    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """Tokens (T, D) to logits (T, E)."""

    def extra_repr(self) -> str:
        """Sizes, for print(model)."""
        return f"dim={self.dim}, num_experts={self.num_experts}"


class Linear(Gate):
    """One linear score an expert, z = W x. Costs D * E multiply-adds a token.

    Args:
        dim, num_experts: D and E.

    >>> Linear(16, 4)(torch.randn(10, 16), Context(), None).shape
    torch.Size([10, 4])
    """

    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__(dim, num_experts)
        self.weight = nn.Parameter(torch.empty(num_experts, dim))
        nn.init.uniform_(self.weight, -(dim**-0.5), dim**-0.5)

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """W x."""
        weight = self.weight.to(x.dtype)
        if self.num_experts < FEW:
            return (weight @ x.T).T
        return F.linear(x, weight)


FEW = 16
"""Scores of fewer experts lie expert by expert in memory: on a CPU product and softmax of rows shorter
than a vector register are slow (8,192 tokens, 8 experts: 0.33 and 1.16 ms, not 0.14 and 0.06)."""
