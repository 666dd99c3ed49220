"""A colour for each class: that of what it is where its name is known, else a hue of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import hsv_to_rgb, to_rgb

NAMED = {
    "ground": "#b39b72",
    "road": "#6d6875",
    "sidewalk": "#c9ada7",
    "terrain": "#9bc06b",
    "floor": "#b08968",
    "ceiling": "#e9ecef",
    "wall": "#cdb4db",
    "building": "#c1553c",
    "vegetation": "#2d8a4e",
    "low vegetation": "#a7d676",
    "medium vegetation": "#5fb356",
    "high vegetation": "#2d8a4e",
    "trunk": "#7f5539",
    "car": "#3a6ea5",
    "water": "#48bfe3",
    "person": "#e63946",
    "pole": "#f4a261",
    "door": "#bc6c25",
    "table": "#e9c46a",
    "chair": "#ee6c4d",
}
UNKNOWN = (190, 190, 190)
TURN = 0.618
"""Hues of classes without a colour are the golden section apart, so that no two are alike."""


def colours(classes: Sequence[str]) -> np.ndarray:
    """(C + 1, 3) uint8, the last for no class."""
    hue = np.arange(len(classes)) * TURN % 1
    spare = hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.55), np.full_like(hue, 0.75)], 1))
    chosen = [to_rgb(NAMED[name]) if name in NAMED else own for name, own in zip(classes, spare, strict=True)]
    return np.concatenate([np.rint(255 * np.array(chosen)), [UNKNOWN]]).astype(np.uint8)
