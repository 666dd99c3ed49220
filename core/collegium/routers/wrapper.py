"""Routers that stand around another one."""

from torch import Tensor

from collegium.context import Context
from collegium.routers.base import Router
from collegium.routing import Routing


class Wrapper(Router):
    """A router that prepares the decision of another, or adds to it.

    Args:
        dim, num_experts: D and E.
        router: takes the decision; its bias, its schedule and what it needs are those of the whole.

    Raises:
        ValueError: the inner router has several gates.
    """

    def __init__(self, dim: int, num_experts: int, router: Router) -> None:
        super().__init__(dim, num_experts)
        if router.outputs is not None:
            raise ValueError(
                f"{type(self).__name__} needs a router with one output a token, not {type(router).__name__}"
            )
        self.router = router
        self.needs, self.causal, self.blind = router.needs, router.causal, router.blind

    @property
    def bias(self) -> Tensor | None:
        """The selection bias, of as many of the last experts as it has entries."""
        bias: Tensor | None = getattr(self.router, "bias", None)
        return bias

    @property
    def experts_a_token(self) -> int | None:
        """Those of the inner router."""
        return self.router.experts_a_token

    def anneal(self, progress: float) -> None:
        """Pass on to the inner router."""
        self.router.anneal(progress)

    def keep_bias(self) -> None:
        """Let the inner router keep one."""
        self.router.keep_bias()

    def decide(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """What the inner router says.

        Raises:
            ValueError: it mixes tokens into slots.
        """
        routing = self.router(x, context, previous)
        if not isinstance(routing, Routing):
            raise ValueError(
                f"{type(self).__name__} needs a router that assigns tokens, not {type(self.router).__name__}"
            )
        return routing
