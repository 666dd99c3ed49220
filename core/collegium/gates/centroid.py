"""Scores by distance to fixed points."""

from typing import Literal

import torch
from torch import Tensor

from collegium.context import Context
from collegium.gates.base import Gate
from collegium.routing import Routing


class Centroid(Gate):
    """z_e = -|x - c_e|: the nearest of E fixed centroids (Liu et al. 2024, Moirai-MoE, section 3.2.2).

    Centroids are a buffer and not learned. Fill it with the cluster centres of the hidden states of a dense
    model of the same width that was trained before: ``gate.centroids.copy_(centres)``; until then they are
    random. Costs D * E multiply-adds a token.

    Args:
        dim, num_experts: D and E.
        metric: "neg_l2", or "l2_as_released": the released code of Moirai-MoE takes the farthest centroids.
            Its experts were trained that way; use it to load its weights and for nothing else.

    Raises:
        ValueError: an unknown metric.

    >>> gate = Centroid(2, 3)
    >>> _ = gate.centroids.copy_(torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]]))
    >>> gate(torch.tensor([[4.0, 0.5], [0.1, 0.2]]), Context(), None).argmax(1).tolist()
    [1, 0]
    """

    centroids: Tensor

    def __init__(
        self, dim: int, num_experts: int, metric: Literal["neg_l2", "l2_as_released"] = "neg_l2"
    ) -> None:
        super().__init__(dim, num_experts)
        if metric not in ("neg_l2", "l2_as_released"):
            raise ValueError(f"unknown metric {metric!r}: choose 'neg_l2' or 'l2_as_released'")
        self.metric = metric
        self.register_buffer("centroids", torch.randn(num_experts, dim))

    def forward(self, x: Tensor, context: Context, previous: Routing | None) -> Tensor:
        """Distances, negative unless as released."""
        centroids = self.centroids.to(x.dtype)
        origin = centroids.mean(0)  # cdist subtracts squared norms: far from zero nothing would be left
        distance = torch.cdist(x - origin, centroids - origin)
        return -distance if self.metric == "neg_l2" else distance
