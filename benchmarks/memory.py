"""Peak memory of a piece of work, in a process of its own."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.contestants import CONTESTANTS
from benchmarks.grid import Point
from benchmarks.layers import input_shape
from benchmarks.timing import Contestant

PROCESS = Path("/proc/self")


def peak_megabytes(name: str, point: Point) -> float | None:
    """One step of a layer: weights, input, gradients and all between, at the highest.

    None where the system does not tell.
    """
    return in_own_process(_of_layer, name, point)


def in_own_process(measure: Callable[..., float], *given: Any) -> float | None:
    """What a measurement that calls `peak_of` returns in a fresh process; None where no peak is told."""
    if not (PROCESS / "clear_refs").exists():
        return None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *given).result()


def peak_of(run: Callable[[], object]) -> float:
    """Megabytes that a call takes at its highest beyond what the process has before it."""
    torch.set_num_threads(1)
    torch.randn(256, 256) @ torch.randn(256, 256)  # the matrix library's own buffers
    (PROCESS / "clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1024


def _of_layer(name: str, point: Point) -> float:
    layer = CONTESTANTS[name](point)
    contestant = Contestant(layer, input_shape(layer, point))
    held = sum(tensor.nbytes for tensor in (*contestant.wanted, contestant.grad))
    return peak_of(contestant.forward_backward) + held / 2**20


def _status(field: str) -> int:
    """Kilobytes."""
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
