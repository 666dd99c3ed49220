"""A simulated phantom: letters that glow at several depths."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from apps.lidar.data import Data, Histograms
from apps.lidar.estimates import estimates
from apps.lidar.model import OUTPUTS

LETTERS = "LIDAR"
HEIGHT, WIDTH = 40, 120
PHOTONS = 2000.0


def drawn() -> np.ndarray:
    """Which letter stands at each pixel, (HEIGHT, WIDTH) int: its place in LETTERS from 1, or 0 for none."""
    number = np.zeros((HEIGHT, WIDTH), dtype=int)
    for place, letter in enumerate(LETTERS):
        figure = Figure(figsize=(WIDTH / 10, HEIGHT / 10), dpi=10)
        x = (place + 0.5) / len(LETTERS)
        figure.text(x, 0.5, letter, size=200, weight="bold", ha="center", va="center")
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        ink = np.asarray(canvas.buffer_rgba())[..., 0]
        number[ink < 128] = place + 1
    return number


def phantom(network: nn.Module, data: Data) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Maps (HEIGHT, WIDTH) of the truth, and of what a network says; NaN where nothing glows.

    Letters lie at evenly spaced depths with evenly spaced lifetimes, in tissue in the middle of the ranges.
    """
    number = drawn()
    lit = number > 0
    letter, ranges = torch.from_numpy(number[lit]).double(), data.ranges
    share, generator = letter / (len(LETTERS) + 1), torch.Generator().manual_seed(data.seed)
    scenes = ranges.draw(len(letter), generator).having(photons=torch.full_like(letter, PHOTONS))
    for name in ("scattering", "absorption", "response"):
        scenes = scenes.having(**{name: torch.full_like(letter, sum(getattr(ranges, name)) / 2)})
    for name, of in zip(OUTPUTS, (share, 1 - share), strict=True):
        low, high = getattr(ranges, name)
        scenes = scenes.having(**{name: low + (high - low) * of})
    found = estimates(network, Histograms(data, scenes, generator))

    def image(values: np.ndarray) -> np.ndarray:
        whole = np.full(number.shape, np.nan)
        whole[lit] = values
        return whole

    truth = {name: image(found.truth[:, i]) for i, name in enumerate(OUTPUTS)}
    said = {name: image(found.value[:, i]) for i, name in enumerate(OUTPUTS)}
    said |= {f"{name}_error": image(found.expected[:, i]) for i, name in enumerate(OUTPUTS)}
    return truth, said
