"""Peak memory of one training step, each layer in a process of its own."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.contestants import CONTESTANTS
from benchmarks.grid import Point
from benchmarks.layers import input_shape
from benchmarks.timing import Contestant

PROCESS = Path("/proc/self")


def peak_megabytes(name: str, point: Point) -> float | None:
    """Weights, input, gradients and all between, at the highest; None where the system does not tell."""
    if not (PROCESS / "clear_refs").exists():
        return None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, name, point).result()


def _measure(name: str, point: Point) -> float:
    torch.set_num_threads(1)
    torch.randn(256, 256) @ torch.randn(256, 256)  # the matrix library's own buffers
    layer = CONTESTANTS[name](point)
    contestant = Contestant(layer, input_shape(layer, point))
    (PROCESS / "clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    contestant.forward_backward()
    held = sum(tensor.nbytes for tensor in (*contestant.wanted, contestant.grad))
    return (_status("VmHWM") - before) / 1024 + held / 2**20


def _status(field: str) -> int:
    """Kilobytes."""
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
