"""Feed-forward experts with stacked weights."""

from typing import Any

import torch
from torch import Tensor, nn

from collegium.dispatch.activations import ACTIVATIONS
from collegium.dispatch.grouped import grouped_mlp
from collegium.experts.base import Experts


class MLP(Experts):
    """E two-layer perceptrons without biases, act(x @ up_e) @ down_e, run as grouped products.

    Fine-grained experts (Dai et al. 2024) are more and narrower ones: m * E of width hidden / m, with m * k
    active, cost the same.

    Args:
        dim: D.
        num_experts: E.
        hidden: H, the width inside one expert.
        activation: "gelu", "relu", "silu", "identity" (linear maps of rank H), or "swiglu" (a gate and a
            value of width H each).
        out_dim: O; D by default.

    Raises:
        ValueError: an unknown activation or a width below 1.

    >>> block = MLP(16, 4, hidden=32, activation="swiglu")
    >>> block(torch.randn(10, 16), torch.tensor([5, 0, 2, 3])).shape
    torch.Size([10, 16])
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        hidden: int,
        activation: str = "gelu",
        out_dim: int | None = None,
    ) -> None:
        super().__init__(num_experts)
        out_dim = dim if out_dim is None else out_dim
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
        if min(dim, hidden, out_dim) < 1:
            raise ValueError("MLP wants dim, hidden and out_dim of at least 1")
        self.activation = activation
        self.dim = dim
        self.up = nn.Parameter(torch.empty(num_experts, dim, ACTIVATIONS[activation].widen * hidden))
        self.down = nn.Parameter(torch.empty(num_experts, hidden, out_dim))
        nn.init.uniform_(self.up, -(dim**-0.5), dim**-0.5)
        nn.init.uniform_(self.down, -(hidden**-0.5), hidden**-0.5)

    def forward(self, x: Tensor, counts: Tensor | int, **side: Any) -> Tensor:
        """Rows (A, D) to (A, O)."""
        return grouped_mlp(x, counts, self.up, self.down, self.activation)

    def extra_repr(self) -> str:
        """Sizes, for print(model)."""
        E, D, _ = self.up.shape
        return f"dim={D}, num_experts={E}, hidden={self.down.shape[1]}, activation={self.activation!r}"
