"""Scores by direction alone."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from collegium.context import Context
from collegium.gates.base import Gate
from collegium.routing import Routing


class Cosine(Gate):
    """z_e = cos(V x, c_e) / tau with a learned temperature tau (Chi et al. 2022, section 4; GNT-MOVE).

    The length of a token does not matter, so long tokens cannot make one expert's score run away. Costs
    D * P + P * E multiply-adds a token.

    Args:
        dim, num_experts: D and E.
        proj_dim: P, the width in which directions are compared; E / 2, and at least 2, by default.
        temperature: tau at the start; it stays above 0.01.

    Raises:
        ValueError: a width below 1 or a temperature not above 0.01.

    >>> gate, x = Cosine(16, 4), torch.randn(10, 16)
    >>> torch.allclose(gate(x, Context(), None), gate(5 * x, Context(), None), atol=1e-5)
    True
    """

    def __init__(
        self, dim: int, num_experts: int, proj_dim: int | None = None, temperature: float = 0.07
    ) -> None:
        super().__init__(dim, num_experts)
        width = max(num_experts // 2, 2) if proj_dim is None else proj_dim
        if width < 1 or temperature <= COLDEST:
            raise ValueError(f"Cosine wants proj_dim of at least 1 and a temperature above {COLDEST}")
        self.projection = nn.Parameter(torch.empty(width, dim))
        self.directions = nn.Parameter(torch.empty(num_experts, width))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        nn.init.uniform_(self.projection, -(dim**-0.5), dim**-0.5)
        nn.init.normal_(self.directions)

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """Cosines over the temperature."""
        token = F.normalize(F.linear(x, self.projection.to(x.dtype)), dim=-1)
        expert = F.normalize(self.directions.to(x.dtype), dim=-1)
        temperature = self.log_temperature.to(x.dtype).exp().clamp(min=COLDEST)
        return token @ expert.T / temperature


COLDEST = 0.01
"""Below this temperature a softmax of cosines is a step, and has no gradient."""
