"""Hash routing: a fixed function of a discrete key."""

from torch import Tensor

from collegium.context import Context
from collegium.routers.base import Router
from collegium.routing import Routing


class Hash(Router):
    """One expert a token by a fixed hash of a discrete feature, weight 1 (Roller et al. 2021, section 3).

    Nothing is learned and nothing can collapse: a floor that a learned router has to beat. Costs one expert a
    token, and nothing beside it.

    Args:
        dim, num_experts: D and E (D is not looked at).
        key: the Context field to hash: "label", "task", "domain", "position" or "segment".
        seed: another seed is another assignment of keys to experts.

    Raises:
        ValueError: the key is no discrete field; at a call, that field is absent.

    >>> import torch
    >>> context = Context(label=torch.tensor([3, 5, 3]))
    >>> Hash(16, 8)(torch.randn(3, 16), context).dense_weight().argmax(1).tolist()
    [5, 2, 5]
    """

    blind = True

    def __init__(self, dim: int, num_experts: int, key: str = "label", seed: int = 0) -> None:
        super().__init__(dim, num_experts)
        if key not in ("label", "task", "domain", "position", "segment"):
            raise ValueError(f"Hash: key={key!r} is not a discrete field of Context")
        self.key = key
        self.k = 1
        self.seed = seed
        self.needs = (key,)

    def route(self, x: Tensor, context: Context, previous: Routing | None) -> Routing:
        """Hash the key of each token."""
        key: Tensor = getattr(context, self.key)
        index = (mix(key.long() + self.seed * 0x632BE5AB % 2**32) % self.num_experts)[:, None]
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
