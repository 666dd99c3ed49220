from collections.abc import Callable

import collegium
from collegium import Context, Routing
from collegium.routers import Router, TopK
from torch import Tensor, nn


class Lazy(Router):
    """A router that its author has not finished."""

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Return the scores alone."""
        return x[:, : self.num_experts]  # type: ignore[return-value]


class Net(nn.Module):
    def __init__(
        self,
        dim: int = 8,
        num_experts: int = 4,
        router: Callable[[int, int], Router] = TopK,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(4, dim)
        self.dropout = nn.Dropout(dropout)
        self.mixture = collegium.MoE(
            router(dim, num_experts), collegium.experts.MLP(dim, num_experts, hidden=2 * dim)
        )
        self.leave = nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.enter(x))
        return self.leave(x + self.mixture(x))
