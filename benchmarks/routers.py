"""The same layer with every router of the library, beside top-k."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from collegium import Context, MoE, experts, routers
from collegium.routers import Router
from collegium.slots import SlotRouting
from collegium.testing import random_context
from torch import Tensor, nn

from benchmarks.grid import SEQUENCE, Point

POINTS = [Point(8192, 64, 16, 2), Point(8192, 256, 16, 2)]
"""Sixteen experts: a number that can be halved, and is a square."""
TOPK = "TopK"

ALL = "runs all experts until its selection has sharpened"
EVEN = "looks at all tokens in training, to load experts evenly"
ONE = "runs one expert a token"


class Timed(NamedTuple):
    """A router, and why it costs another time than top-k where it does."""

    build: Callable[[int, int], Router]
    reason: str = ""


ROUTERS: dict[str, Timed] = {
    TOPK: Timed(routers.TopK),
    "NoisyTopK": Timed(routers.NoisyTopK, "a second gate, noise, and the chance of every choice"),
    "Switch": Timed(routers.Switch, ONE),
    "GroupLimited": Timed(partial(routers.GroupLimited, groups=4, top_groups=2)),
    "EqualPerGroup": Timed(routers.EqualPerGroup),
    "TopP": Timed(routers.TopP, "runs many experts while the router is unsure"),
    "ExpertChoice": Timed(routers.ExpertChoice),
    "ProductKey": Timed(routers.ProductKey, "about k k experts a token, by a table of all"),
    "Base": Timed(routers.Base, f"{EVEN}, by an auction; {ONE}"),
    "Sinkhorn": Timed(routers.Sinkhorn, f"{EVEN}, by passes over a table of all"),
    "AllExperts": Timed(routers.AllExperts, "runs all experts"),
    "SoftSlots": Timed(partial(routers.SoftSlots, slots=SEQUENCE * 2 // 16), "a product of tokens and slots"),
    "DSelectK": Timed(routers.DSelectK, ALL),
    "Comet": Timed(routers.Comet, ALL),
    "DenseToSparse": Timed(routers.DenseToSparse, ALL),
    "Hash": Timed(routers.Hash, ONE),
    "Lookup": Timed(routers.Lookup, ONE),
    "Random": Timed(partial(routers.Random, k=2)),
    "RandomPartition": Timed(routers.RandomPartition, ONE),
    "FixedPlusRouted": Timed(partial(routers.FixedPlusRouted, router=partial(routers.TopK, k=1))),
    "Recurrent": Timed(routers.Recurrent, "a recurrent cell"),
    "WholeSegment": Timed(routers.WholeSegment),
    "MultiGate": Timed(routers.MultiGate, "runs all experts, for two outputs"),
}


class Layer(nn.Module):
    """An MoE layer, called with the context that its router needs."""

    def __init__(self, name: str, point: Point) -> None:
        super().__init__()
        choice = ROUTERS[name].build(point.width, point.experts)
        self.moe = MoE(choice, experts.MLP(point.width, point.experts, hidden=point.hidden))
        leading = point.tokens // SEQUENCE, SEQUENCE
        self.context: Context = random_context(choice.needs, leading)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) to the layer's output, of the first gate where there are several."""
        y: Tensor = self.moe(x, self.context)
        return y[:, :, 0] if y.ndim > x.ndim else y


@torch.no_grad()
def experts_a_token(layer: Layer, x: Tensor) -> float:
    """Rows that experts run, over tokens."""
    _, routing = layer.moe(x, layer.context, return_routing=True)
    if isinstance(routing, SlotRouting):
        rows = len(routing.segments.index) * routing.into[0].numel()
        return rows / routing.num_tokens
    return float(routing.row_counts().sum() / routing.num_tokens)
