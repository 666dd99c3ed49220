"""A colour for each class: that of what it is where its name is known, else one of a palette."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb

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


def colours(classes: Sequence[str]) -> np.ndarray:
    """(C + 1, 3) uint8, the last for no class."""
    spare = iter(colormaps["tab20b"](np.linspace(0, 1, max(len(classes), 2)))[:, :3])
    chosen = [to_rgb(NAMED[name]) if name in NAMED else next(spare) for name in classes]
    return np.concatenate([np.rint(255 * np.array(chosen)), [UNKNOWN]]).astype(np.uint8)
