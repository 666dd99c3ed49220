"""What a network says of many histograms, in mm and ns, and parts of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from apps.lidar.data import Data, Histograms
from apps.lidar.model import OUTPUTS, Estimate
from apps.lidar.scenes import Ranges, Scenes

CHUNK = 2048
PARTS = {"photons": 4, "depth": 3, "scattering": 3}
"""Into how many parts the range of each is cut: of equal width, on a logarithmic scale for photons."""
OUTSIDE, FURTHER = ("depth", "lifetime", "scattering"), 0.4
"""What may lie beyond its range, where an estimate should be less sure of itself, and by how much of it."""


class Found(NamedTuple):
    """Estimates of N histograms.

    value, truth: (N, 2) depth in mm and lifetime in ns; quality, expected: (N, 2) the critics' grade, between
    0 and 1, and the error that they expect, in mm and ns, both NaN of a network without critics; weight:
    (N, E, 2) of each expert, E = 0 of such a network; scenes: the truth whole.
    """

    value: np.ndarray
    truth: np.ndarray
    quality: np.ndarray
    expected: np.ndarray
    weight: np.ndarray
    scenes: Scenes

    def some(self, kept: np.ndarray) -> Found:
        """Those of some rows, (N,) bool."""
        value, truth, quality, expected, weight = (array[kept] for array in self[:-1])
        return Found(value, truth, quality, expected, weight, self.scenes[torch.from_numpy(kept)])


@torch.no_grad()
def estimates(network: nn.Module, histograms: Histograms) -> Found:
    """Ask a network, in evaluation, for all histograms of a part."""
    scale = histograms.data.scale
    spans = torch.tensor([high - low for low, high in (scale.depth, scale.lifetime)])
    parts: list[tuple[torch.Tensor, ...]] = []
    for begin in range(0, len(histograms), CHUNK):
        batch = histograms.__getitems__(range(begin, min(begin + CHUNK, len(histograms))))
        said = network.eval()(batch.reading)
        if isinstance(said, Estimate):
            parts.append((said.value, said.quality, said.error * spans, said.weight))
        else:
            unknown = torch.full_like(said, torch.nan)
            parts.append((said, unknown, unknown, said.new_zeros(len(said), 0, len(OUTPUTS))))
    outputs, *rest = (torch.cat(some) for some in zip(*parts, strict=True))
    value = torch.stack(list(scale.physical(outputs).values()), dim=1).numpy()
    truth = torch.stack([getattr(histograms.truth, name) for name in OUTPUTS], dim=1).numpy()
    quality, expected, weight = (part.double().numpy() for part in rest)
    return Found(value, truth, quality, expected, weight, histograms.truth)


def edges(name: str, ranges: Ranges) -> np.ndarray:
    """Where the range of a parameter is cut into PARTS."""
    low, high = getattr(ranges, name)
    spaced = np.geomspace if name == "photons" else np.linspace
    ends: np.ndarray = spaced(low, high, PARTS[name] + 1)
    return ends


def slices(found: Found, ranges: Ranges) -> Iterator[tuple[str, Found]]:
    """All of them, and parts by photons, depth and scattering."""
    yield "all", found
    for part, (name, low, high) in parts(ranges).items():
        value = getattr(found.scenes, name).numpy()
        inside = (value >= low) & (value <= high)
        if inside.any():
            yield part, found.some(inside)


def parts(ranges: Ranges, names: Iterable[str] = PARTS) -> dict[str, tuple[str, float, float]]:
    """The parts by some parameters that vary, by their names: parameter, and between what it lies."""
    return {
        part_name(name, low, high): (name, float(low), float(high))
        for name in names
        if np.ptp(getattr(ranges, name)) > 0
        for low, high in pairwise(edges(name, ranges))
    }


def part_name(name: str, low: float, high: float) -> str:
    """What a part of the range of a parameter is called."""
    return f"{name} {low:.3g}-{high:.3g}"


def outside(network: nn.Module, data: Data, number: int = 1000) -> Iterator[tuple[str, Found]]:
    """Estimates where one parameter lies beyond the ranges of training, and light is known."""
    for name in OUTSIDE:
        low, high = getattr(data.ranges, name)
        if low == high:
            continue
        span = high, high + FURTHER * (high - low)
        generator = torch.Generator().manual_seed(data.seed)
        scenes = replace(data.ranges, **{name: span}).draw(number, generator)
        near = scenes.depth * scenes.scattering <= data.rig.reach(data.light)
        if near.any():
            beyond = Histograms(data, scenes[near], generator)
            yield f"{part_name(name, *span)}, untrained", estimates(network, beyond)
