"""The sizes at which layers are timed."""

from dataclasses import dataclass
from itertools import product

SEQUENCE = 1024
"""Tokens come as sequences of this length: libraries with a capacity route each sequence alone."""


@dataclass(frozen=True)
class Point:
    """One layer and one batch: hidden width 4 * width an expert, ``k`` of ``experts`` for every token."""

    tokens: int
    width: int
    experts: int
    k: int

    @property
    def hidden(self) -> int:
        return 4 * self.width

    @property
    def rows(self) -> int:
        """Rows an expert when all get equally many."""
        return self.tokens * self.k // self.experts

    @property
    def name(self) -> str:
        return f"N{self.tokens}-d{self.width}-E{self.experts}-k{self.k}"

    @property
    def active_params(self) -> int:
        """Weights that a token meets, without the router: equal for every layer timed at this point."""
        return 2 * self.width * self.hidden * self.k

    @property
    def active_flops(self) -> int:
        """Multiplications and additions of one forward pass over all tokens, without the router."""
        return 2 * self.active_params * self.tokens

    @classmethod
    def parse(cls, name: str) -> "Point":
        """The point of a name such as N8192-d256-E8-k2."""
        tokens, width, experts, k = (int(part.lstrip("NdEk")) for part in name.split("-"))
        return cls(tokens, width, experts, k)


FULL = [Point(*sizes) for sizes in product((1024, 8192), (64, 256), (4, 8, 32, 64), (1, 2))]
QUICK = [
    Point(1024, 64, 32, 1),
    Point(1024, 64, 8, 2),
    Point(1024, 256, 64, 2),
    Point(8192, 64, 64, 2),
    Point(8192, 256, 8, 2),
]
