"""Where the time of one forward pass goes: the parts of a layer with top-k, each run alone."""

import math
import time
from collections.abc import Callable
from typing import cast

import torch
from collegium import Context, Routing
from collegium.dispatch import combine_rows, gather_rows
from collegium.gates import Gate
from collegium.routers.base import softmax
from collegium.routers.topk import largest

from benchmarks.grid import Point
from benchmarks.layers import collegium, dense, input_shape
from benchmarks.timing import SAMPLE

PARTS = ("gate", "softmax and choice", "sort by expert", "gather", "experts", "combine", "calls between")


@torch.no_grad()
def shares(point: Point, rounds: int) -> dict[str, float]:
    """Each part's CPU time over that of the dense layer; the last is what the whole takes beside them."""
    layer, plain = collegium(point), dense(point)
    x = torch.randn(input_shape(plain, point))
    tokens, nothing = x.flatten(0, -2), Context()
    gate = cast(Gate, layer.router.gate)
    logits = gate(tokens, nothing, None)
    probs = softmax(logits)
    index = largest(probs, point.k)
    weight = probs.gather(1, index)
    routing = Routing.from_topk(index, weight, point.experts, logits=logits, probs=probs)
    rows = gather_rows(tokens, routing)
    y = layer.experts(rows, routing.counts)
    runs: dict[str, Callable[[], object]] = {
        "gate": lambda: gate(tokens, nothing, None),
        "softmax and choice": lambda: _choose(logits, point.k),
        "sort by expert": lambda: Routing.from_topk(index, weight, point.experts, logits=logits, probs=probs),
        "gather": lambda: gather_rows(tokens, routing),
        "experts": lambda: layer.experts(rows, routing.counts),
        "combine": lambda: combine_rows(y, routing),
        "whole": lambda: layer(x),
        "dense": lambda: plain(x),
    }
    best = dict.fromkeys(runs, math.inf)
    for _ in range(rounds):
        for name, run in runs.items():
            best[name] = min(best[name], _seconds(run))
    parts = {name: best[name] / best["dense"] for name in PARTS[:-1]}
    return {**parts, PARTS[-1]: best["whole"] / best["dense"] - sum(parts.values())}


def _choose(logits: torch.Tensor, k: int) -> torch.Tensor:
    probs = softmax(logits)
    return probs.gather(1, largest(probs, k))


def _seconds(run: Callable[[], object]) -> float:
    start, calls = time.process_time(), 0
    while (spent := time.process_time() - start) < SAMPLE:
        run()
        calls += 1
    return spent / calls
