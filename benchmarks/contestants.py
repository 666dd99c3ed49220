"""Who runs, under which name."""

from collections.abc import Callable

from torch import nn

from benchmarks import layers, peers
from benchmarks.grid import Point

PEERS: dict[str, Callable[[Point], nn.Module]] = {
    "loop": layers.Loop,
    "transformers_grouped_mm": peers.transformers_grouped_mm,
    "transformers_eager": peers.transformers_eager,
    "st_moe_pytorch": peers.st_moe_pytorch,
    "mixture_of_experts": peers.mixture_of_experts,
}
CONTESTANTS: dict[str, Callable[[Point], nn.Module]] = {
    "dense": layers.dense,
    "floor": layers.Floor,
    "collegium": layers.collegium,
    **PEERS,
}
