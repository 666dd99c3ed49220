"""CPU time of forward and of forward + backward, all contestants interleaved, one thread."""

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from rich.progress import track
from torch import nn

SAMPLE = 0.01
"""Seconds of the dense layer in one sample: small layers are run several times in a row."""
SLOW = 6.0
"""A layer this many times slower than the dense one is timed in three rounds only."""


class Contestant:
    """A layer with its input and the gradient of its output."""

    def __init__(self, layer: nn.Module, shape: tuple[int, ...]) -> None:
        self.layer = layer
        self.x = torch.randn(shape, requires_grad=True)
        self.grad = torch.randn(shape)
        self.wanted = [self.x, *layer.parameters()]

    def forward(self) -> None:
        with torch.no_grad():
            self.layer(self.x)

    def forward_backward(self) -> None:
        torch.autograd.grad(self.layer(self.x), self.wanted, self.grad, allow_unused=True)


MODES: dict[str, Callable[[Contestant], None]] = {
    "forward": Contestant.forward,
    "forward_backward": Contestant.forward_backward,
}


def race(
    contestants: dict[str, Contestant], rounds: int, tick: Callable[[], None] = lambda: None
) -> dict[str, dict[str, float]]:
    """Seconds of every contestant, by mode and name: the least of all rounds, each of which runs every one.

    The least of many is what the machine does undisturbed. Every round has its own order, so that a slow
    spell or what another layer left in the caches touches all alike. One must be called "dense".
    """
    best = {mode: dict.fromkeys(contestants, math.inf) for mode in MODES}
    order = list(contestants)
    with no_collection():
        for turn in range(rounds):
            random.Random(turn).shuffle(order)
            for (mode, run), name in ((item, name) for item in MODES.items() for name in order):
                times = best[mode]
                if turn < 3 or times[name] < SLOW * times["dense"]:
                    seconds = cpu_seconds(partial(run, contestants[name]), _repeats(times["dense"]))
                    times[name] = min(times[name], seconds)
            tick()
    return best


def least(
    contenders: Mapping[str, Mapping[str, Callable[[], object]]], rounds: int
) -> dict[str, dict[str, float]]:
    """CPU seconds of every call, by name and metric: the least of all rounds, each in an order of its own."""
    warm_allocator()
    best = {name: dict.fromkeys(timed, math.inf) for name, timed in contenders.items()}
    order = list(contenders)
    with no_collection():
        for turn in track(range(rounds), "Timing"):
            random.Random(turn).shuffle(order)
            for name in order:
                for metric, call in contenders[name].items():
                    best[name][metric] = min(best[name][metric], cpu_seconds(call))
    return best


def _repeats(dense: float) -> int:
    return 1 if math.isinf(dense) else max(1, round(SAMPLE / dense))


def cpu_seconds(run: Callable[[], object], repeats: int = 1) -> float:
    """CPU seconds of the process for one call, the mean of some in a row."""
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats


def warm_allocator() -> None:
    """Free one block of nearly 32 MiB.

    From then on glibc serves smaller blocks from memory that it keeps, as in any process that has run for a
    while; before, every block above 128 KiB costs page faults or not by the luck of what was freed last.
    """
    torch.empty(32 * 2**20 - 2**16, dtype=torch.uint8)


@contextmanager
def no_collection() -> Iterator[None]:
    """Within, the garbage collector does not step in."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
