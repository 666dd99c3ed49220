"""The physical limit of scenes drawn from ranges, by their photons."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch

from apps.common.files import write_text
from apps.lidar.bound import Prior, bound
from apps.lidar.estimates import edges, part_name
from apps.lidar.model import OUTPUTS
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges

FILE = Path(__file__).with_name("limits.json")
"""The limits of the usual ranges and rig, which ship with the app; made by `make_limits`."""
NUMBER = 1000
"""Scenes from which the bound of each part of the photons is computed where it does not ship."""

Limits = dict[str, list[float]]
"""By output, the least mean squared error (mm^2, ns^2) in each part of the photons (`estimates.edges`)."""


@cache
def bounds(ranges: Ranges, rig: Rig, known_tissue: bool) -> Limits:
    """The limits, with the light of diffusion theory. Of other ranges, or rigs, they take a minute."""
    if (ranges, rig) == (Ranges(), Rig()):
        shipped: dict[str, Limits] = json.loads(FILE.read_text(encoding="utf-8"))
        return shipped["known" if known_tissue else "unknown"]
    return computed(ranges, rig, known_tissue, NUMBER)


def computed(ranges: Ranges, rig: Rig, known_tissue: bool, number: int, seed: int = 0) -> Limits:
    """The limits from so many scenes a part.

    What is least for known tissue is no more for unknown tissue, so of this the greater one is told.
    """
    found: Limits = {name: [] for name in OUTPUTS}
    for part, (low, high) in enumerate(pairwise(edges("photons", ranges))):
        inside = replace(ranges, photons=(float(low), float(high)))
        some = []
        for known in {True, known_tissue}:
            generator = torch.Generator().manual_seed(seed + part)
            some.append(bound(Prior.draw(inside, number, known, generator), rig))
        for name, values in found.items():
            values.append(max(one[name] for one in some))
    return found


def least(ranges: Ranges, limits: Limits) -> dict[str, dict[str, float]]:
    """By slice (`estimates.slices`), of all and of each part of the photons: the root of the limits."""
    names = [part_name("photons", low, high) for low, high in pairwise(edges("photons", ranges))]
    parts: dict[str, slice] = {"all": slice(None)}
    parts |= {name: slice(i, i + 1) for i, name in enumerate(names)}
    return {
        name: {output: (sum(values[part]) / len(values[part])) ** 0.5 for output, values in limits.items()}
        for name, part in parts.items()
    }


def make_limits(number: int = 5000, file: Path = FILE) -> None:
    """Compute the limits that ship; ten minutes."""
    made = {name: computed(Ranges(), Rig(), name == "known", number) for name in ("known", "unknown")}
    write_text(file, json.dumps(made, indent=1) + "\n")
