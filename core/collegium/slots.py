"""The other form of a routing: tokens mixed into slots, slots mixed into tokens."""

from dataclasses import dataclass, replace

from torch import Tensor

from collegium.context import Context
from collegium.routing import Routing
from collegium.segments import Segments


@dataclass(frozen=True, eq=False)
class SlotRouting:
    """S slots for each expert and segment, each a mean of the segment's tokens (Puigcerver et al. 2024).

    Args:
        into: (T, E, S) the share of each token in each slot of its segment; a slot's shares sum to one.
        out_of: (T, E, S) the share of each slot in a token's output; a token's shares sum to one.
        segments: how the tokens lie in segments.
        mask: (T,) bool, False for tokens that take no part.
        context: what the layer knew of the tokens beside their vectors; filled in by the layer.
    """

    into: Tensor
    out_of: Tensor
    segments: Segments
    mask: Tensor | None = None
    context: Context | None = None

    def __repr__(self) -> str:
        """Sizes: the tensors would fill pages."""
        T, E, S = self.into.shape
        masked = ", mask" if self.mask is not None else ""
        return f"SlotRouting(tokens={T}, experts={E}, slots={S}, segments={len(self.segments.index)}{masked})"

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.into.shape[0]

    @property
    def num_experts(self) -> int:
        """E."""
        return self.into.shape[1]

    def as_routing(self) -> Routing:
        """The share of each expert in each token's output, as if every token went to every expert.

        This is what balance terms and inspection read.
        """
        share = self.out_of.sum(-1)
        return replace(Routing.dense(share, mask=self.mask, probs=share), context=self.context)


def as_routing(routing: Routing | SlotRouting) -> Routing:
    """Either form as assignments."""
    return routing.as_routing() if isinstance(routing, SlotRouting) else routing
