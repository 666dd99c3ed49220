"""What a sensor says of a point, in units of its own, as networks are told it.

Legend: N points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np


class Units(NamedTuple):
    """What the values of one scan are divided by, and multiplied by.

    light: the intensity that 99 of 100 points stay below; colour: of one unit of its colours, in 255ths, and
    0 where all are black: then its sensor sees none.
    """

    light: float
    colour: float

    @classmethod
    def of(cls, told: Mapping[str, np.ndarray]) -> Self:
        """Those of a scan: colours of up to 1, 255 or 65,535, intensities of any unit."""
        light = np.asarray(told.get("intensity", ()), dtype=np.float32)
        light = light[np.isfinite(light)]
        brightest = float(np.quantile(light, 0.99)) if len(light) else 0.0
        most = float(np.nanmax(told["colour"], initial=0)) if "colour" in told else 0.0
        return cls(
            brightest or 1.0, 0.0 if not most else 255.0 if most <= 1 else 1.0 if most <= 255 else 1 / 257
        )

    def apply(self, told: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Intensities (N,) from 0 to 1, those that are no number 0; colours (N, 3) uint8, or none."""
        found = dict(told)
        if "intensity" in found:
            light = np.where(np.isfinite(found["intensity"]), found["intensity"], 0) / self.light
            found["intensity"] = np.clip(light, 0, 1).astype(np.float32)
        if "colour" in found:
            colour = np.rint(found.pop("colour") * self.colour)
            if self.colour:
                found["colour"] = np.clip(np.nan_to_num(colour), 0, 255).astype(np.uint8)
        return found
