"""What is timed: the dense limit, the floor of sparse layers, a plain loop over experts, and this library."""

import torch
from collegium import MoE, experts, routers
from torch import Tensor, nn

from benchmarks.grid import SEQUENCE, Point


class CannotRunError(Exception):
    """A layer that has no form at some point of the grid; the message says why."""


def input_shape(layer: nn.Module, point: Point) -> tuple[int, ...]:
    """Sequences of tokens; the floor alone takes rows that were grouped before."""
    if isinstance(layer, Floor):
        return point.experts, point.rows, point.width
    return point.tokens // SEQUENCE, SEQUENCE, point.width


def dense(point: Point) -> nn.Module:
    """A feed-forward block of the same active compute: the limit of plain matrix products."""
    hidden = point.k * point.hidden
    return nn.Sequential(
        nn.Linear(point.width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, point.width, bias=False)
    )


class Floor(nn.Module):
    """All experts on equally many rows that are grouped already: what the weights alone cost."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        E, D, H = point.experts, point.width, point.hidden
        self.up = nn.Parameter(torch.randn(E, D, H) * D**-0.5)
        self.down = nn.Parameter(torch.randn(E, H, D) * H**-0.5)

    def forward(self, x_ERD: Tensor) -> Tensor:
        """R rows of every expert, side by side from the start."""
        return torch.bmm(nn.functional.gelu(torch.bmm(x_ERD, self.up)), self.down)


class Loop(nn.Module):
    """The textbook form: a list of experts, each picking its tokens by a comparison."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self.k = point.k
        self.gate = nn.Linear(point.width, point.experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(point.width, point.hidden, bias=False),
                nn.GELU(),
                nn.Linear(point.hidden, point.width, bias=False),
            )
            for _ in range(point.experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        tokens = x.flatten(0, -2)
        weight, index = self.gate(tokens).softmax(-1).topk(self.k, -1)
        y = torch.zeros_like(tokens)
        for e, expert in enumerate(self.experts):
            token, choice = torch.where(index == e)
            y.index_add_(0, token, expert(tokens[token]) * weight[token, choice, None])
        return y.view(x.shape)


def collegium(point: Point) -> MoE:
    """This library, as a reader of its front page would write it."""
    return MoE(
        routers.TopK(point.width, point.experts, k=point.k),
        experts.MLP(point.width, point.experts, hidden=point.hidden),
    )
