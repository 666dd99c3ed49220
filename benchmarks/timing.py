"""CPU time of forward and of forward + backward, all contestants interleaved, one thread."""

import gc
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

SAMPLE = 0.01
"""Seconds of the dense layer in one sample: small layers are run several times in a row."""
SLOW = 6.0
"""A layer this many times slower than the dense one is timed in three rounds only."""

Run = Callable[[nn.Module, Tensor, Tensor], None]


def forward(layer: nn.Module, x: Tensor, grad: Tensor) -> None:
    with torch.no_grad():
        layer(x)


def forward_backward(layer: nn.Module, x: Tensor, grad: Tensor) -> None:
    torch.autograd.grad(layer(x), [x, *layer.parameters()], grad, allow_unused=True)


MODES: dict[str, Run] = {"forward": forward, "forward_backward": forward_backward}


def race(
    layers: dict[str, nn.Module],
    shapes: dict[str, tuple[int, ...]],
    rounds: int,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, float]]:
    """Seconds of every layer, by mode and name: the least of all rounds, each of which runs every layer.

    The least of many is what the machine does undisturbed. Every round has its own order, so that a slow spell
    or what another layer left in the caches touches all alike. One of the layers must be called "dense".
    """
    _warm_allocator()
    inputs = {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}
    grads = {name: torch.randn(shape) for name, shape in shapes.items()}
    best = {mode: dict.fromkeys(layers, math.inf) for mode in MODES}
    order = list(layers)
    with _no_collection():
        for turn in range(rounds):
            random.Random(turn).shuffle(order)
            for (mode, run), name in ((item, name) for item in MODES.items() for name in order):
                times = best[mode]
                if turn < 3 or times[name] < SLOW * times["dense"]:
                    repeats = _repeats(times["dense"])
                    seconds = _cpu_seconds(run, layers[name], inputs[name], grads[name], repeats)
                    times[name] = min(times[name], seconds)
            tick()
    return best


def _repeats(dense: float) -> int:
    return 1 if math.isinf(dense) else max(1, round(SAMPLE / dense))


def _cpu_seconds(run: Run, layer: nn.Module, x: Tensor, grad: Tensor, repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        run(layer, x, grad)
    return (time.process_time() - start) / repeats


def _warm_allocator() -> None:
    """Free one block of nearly 32 MiB.

    From then on glibc serves smaller blocks from memory that it keeps, as in any process that has run for a
    while; before, every block above 128 KiB costs page faults or not by the luck of what was freed last.
    """
    torch.empty(32 * 2**20 - 2**16, dtype=torch.uint8)


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
