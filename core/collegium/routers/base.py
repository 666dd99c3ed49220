"""What every router shares."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from collegium.context import Context
from collegium.gates import Gate, Linear
from collegium.gates.base import FEW
from collegium.precision import Float32Buffers
from collegium.routing import Routing
from collegium.slots import SlotRouting


class RouteError(TypeError):
    """What a router's ``route`` returns is no routing."""


class Router(Float32Buffers, ABC):
    """Decides which tokens go to which experts.

    It works in float32 (or wider) whatever the precision around it: half-precision logits make near ties flip
    and z-losses overflow (Zoph et al. 2022, section 3). Its float buffers stay float32 too.

    Args:
        dim: width D of a token.
        num_experts: E.

    Attributes:
        causal: a token's experts depend on no later token of its sequence and on no other sequence.
        needs: names of the Context fields without which the router cannot decide.
        outputs: how many outputs a token gets, one for each of several gates; None for one output, without
            a dim of its own.
        blind: the decision does not look at a token's vector, and so gives it no gradient.

    Shapes:
        tokens (T, D) -> Routing over T tokens and E experts.

    Raises:
        ValueError: a size is not positive, or a needed context field is absent.
        RouteError: ``route`` returns no routing.
    """

    needs: tuple[str, ...] = ()
    outputs: int | None = None
    blind: bool = False

    def __init__(self, dim: int, num_experts: int) -> None:
        super().__init__()
        if dim < 1 or num_experts < 1:
            raise ValueError(f"{type(self).__name__} wants dim and num_experts of at least 1")
        self.dim = dim
        self.num_experts = num_experts
        self.causal = True

    def forward(
        self, x: Tensor, context: Context | None = None, previous: Routing | SlotRouting | None = None
    ) -> Routing | SlotRouting:
        """Route tokens x (T, D); ``previous`` is the routing of the layer before."""
        context = context or Context()
        context.require(self.needs, type(self).__name__)
        earlier = previous if isinstance(previous, Routing) else None
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if x.is_meta or not torch.is_autocast_enabled(x.device.type):  # meta knows no autocast
            return self._checked(self.route(x, context, earlier))
        with torch.autocast(x.device.type, enabled=False):
            return self._checked(self.route(x, context, earlier))

    def _checked(self, found: object) -> Routing | SlotRouting:
        if isinstance(found, Routing | SlotRouting):
            return found
        raise RouteError(
            f"{type(self).__name__}.route must return a Routing or a SlotRouting, not "
            f"{'None' if found is None else type(found).__name__}: make one with Routing.from_topk, "
            "from_selection or dense"
        )

    @abstractmethod
    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing | SlotRouting:
        """The decision itself; ``context`` holds all that ``needs`` names."""

    @property
    def experts_a_token(self) -> int | None:
        """How many experts each token runs, in training or evaluation as it stands; None where it varies."""
        k: int | None = getattr(self, "k", None)
        return k

    def anneal(self, progress: float) -> None:
        """Take up the share of training that is over, 0 to 1; for routers with a schedule."""

    def keep_bias(self) -> None:
        """Keep a selection bias from now on, for ``balance.BiasBalance``; one that is kept stays.

        Raises:
            ValueError: this router knows none.
        """
        raise ValueError(f"{type(self).__name__} knows no selection bias: use one that does, such as TopK")

    def extra_repr(self) -> str:
        """Sizes, for print(model)."""
        return f"dim={self.dim}, num_experts={self.num_experts}"


class GatedRouter(Router):
    """A router that chooses by the scores of a gate.

    Args:
        dim, num_experts: D and E.
        gate: (D, scores a token) -> gate.
        scores: how many scores a token gets; E by default.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        gate: Callable[[int, int], Gate] = Linear,
        scores: int | None = None,
    ) -> None:
        super().__init__(dim, num_experts)
        self.gate = gate(dim, num_experts if scores is None else scores)
        self.needs = self.gate.needs
        self.causal, self.blind = self.gate.causal, self.gate.blind


def softmax(logits_TE: Tensor) -> Tensor:
    """(T, E) probabilities.

    Of few experts it is taken as ``gates.base.FEW`` tells.
    """
    if logits_TE.shape[1] < FEW:
        return logits_TE.T.softmax(0).T
    return logits_TE.softmax(1)


def check_share(name: str, k: int, num_experts: int) -> None:
    """Raise a ValueError unless 1 <= k <= E."""
    if not 1 <= k <= num_experts:
        raise ValueError(f"{name}: k={k} must lie between 1 and num_experts={num_experts}")
