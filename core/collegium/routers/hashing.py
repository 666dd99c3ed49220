"""Hash routing: a fixed function of an id."""

from torch import Tensor

from collegium.context import IDS, Context, Id
from collegium.routers.base import Router
from collegium.routing import Routing


class Hash(Router):
    """One expert a token by a fixed hash of one of its ids, weight 1 (Roller et al. 2021, section 3).

    Nothing is learned and nothing can collapse: a floor that a learned router has to beat. Costs one expert a
    token, and nothing beside it.

    Args:
        dim, num_experts: D and E (D is not looked at).
        by: the Context field to hash: "label", "task", "domain", "position" or "segment".
        seed: another seed is another assignment of ids to experts.

    Raises:
        ValueError: a field that holds no ids; at a call, that field is absent.

    >>> import torch
    >>> context = Context(label=torch.tensor([3, 5, 3]))
    >>> Hash(16, 8)(torch.randn(3, 16), context).dense_weight().argmax(1).tolist()
    [5, 2, 5]
    """

    blind = True

    def __init__(self, dim: int, num_experts: int, by: Id = "label", seed: int = 0) -> None:
        super().__init__(dim, num_experts)
        if by not in IDS:
            raise ValueError(f"Hash: by={by!r} is not one of {', '.join(IDS)}")
        self.by = by
        self.k = 1
        self.seed = seed
        self.needs = (by,)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Hash the id of each token."""
        own: Tensor = getattr(context, self.by)
        index = (mix(own.long() + self.seed * 0x632BE5AB % 2**32) % self.num_experts)[:, None]
        probs = x.new_zeros(len(x), self.num_experts).scatter(1, index, 1.0)
        weight = x.new_ones(index.shape)
        return Routing.from_topk(index, weight, self.num_experts, mask=context.mask, probs=probs)


def mix(x: Tensor) -> Tensor:
    """Non-negative int64 with well mixed low bits (a multiply-xorshift finaliser, 32 bit)."""
    low = 0xFFFFFFFF
    x = x & low
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & low
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & low
    return x ^ (x >> 16)
