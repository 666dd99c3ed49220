"""A cloud as a picture: points as little squares, the nearest in front, from above at a slant."""

from __future__ import annotations

import numpy as np

TILT, TURN = 0.9, 0.6
"""Radians that the eye stands above the horizon, and around."""
WIDTH = 520
"""Pixels of a picture."""
NEARER = 0.25
"""Darkening of what lies deepest."""
FAR = 0.01
"""Share of points on each side that are left out, so that few far ones do not make all others small."""


def picture(xyz: np.ndarray, colour: np.ndarray, width: int = WIDTH, dot: int = 2) -> np.ndarray:
    """(height, width, 3) uint8 of points by parallel projection.

    Args:
        xyz: (N, 3).
        colour: (N, 3) uint8.
        width: of the picture, pixels.
        dot: side of a point, pixels.
    """
    low, high = np.quantile(xyz, [FAR, 1 - FAR], axis=0)
    near = ((xyz[:, :2] >= low[:2]) & (xyz[:, :2] <= high[:2])).all(1)
    xyz, colour = xyz[near], colour[near]
    c, s = np.cos(TURN), np.sin(TURN)
    turned = (xyz - xyz.mean(0)) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    across, ahead, up = turned.T
    vertical = up * np.cos(TILT) + ahead * np.sin(TILT)
    depth = ahead * np.cos(TILT) - up * np.sin(TILT)
    scale = (width - dot - 1) / max(float(np.ptp(across)), float(np.ptp(vertical)), 1e-9)
    column = ((across - across.min()) * scale).astype(int)
    row = ((vertical.max() - vertical) * scale).astype(int)
    far = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
    shaded = colour * (1 - NEARER * far[:, None])
    image = np.full((row.max() + dot, width, 3), 255, dtype=np.uint8)
    order = np.argsort(-depth, kind="stable")
    for down in range(dot):
        for right in range(dot):
            image[row[order] + down, column[order] + right] = shaded[order]
    return image
