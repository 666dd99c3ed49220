"""The physical limit of scenes drawn from ranges, of all and of parts of them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from rich.progress import track

from apps.common.files import write_text
from apps.lidar.bound import Prior, bound
from apps.lidar.estimates import PARTS, parts
from apps.lidar.model import OUTPUTS
from apps.lidar.rig import Rig
from apps.lidar.scenes import Ranges

FILE = Path(__file__).with_name("limits.json")
"""The limits of the usual ranges and rig, which ship with the app; made by `make_limits`."""
NUMBER = 1000
"""Scenes from which the limit of a part is computed where it does not ship."""

Limit = dict[str, float]
"""By output, the least mean squared error (mm^2, ns^2)."""
Limits = dict[str, Limit]
"""By slice, as `estimates.slices` names them."""


@cache
def bounds(ranges: Ranges, rig: Rig, known_tissue: bool) -> Limits:
    """The limits, with the light of diffusion theory. Of other ranges, or rigs, they take a minute, and are
    those of all scenes and of parts of the photons alone."""
    if (ranges, rig) == (Ranges(), Rig()):
        shipped: dict[str, Limits] = json.loads(FILE.read_text(encoding="utf-8"))
        return shipped["known" if known_tissue else "unknown"]
    return computed(ranges, rig, known_tissue, NUMBER, ("photons",))


def computed(
    ranges: Ranges,
    rig: Rig,
    known_tissue: bool,
    number: int,
    names: tuple[str, ...] = tuple(PARTS),
    seed: int = 0,
) -> Limits:
    """The limits of all scenes and of parts by some parameters, from so many scenes a part.

    What holds for each part of the photons holds on the mean for all of them, and is closer than what is
    computed of all at once: so are the limits of all, and of parts by anything else.
    """
    light = {name: (low, high) for name, (_, low, high) in parts(ranges, ("photons",)).items()}
    light = light or {"all": ranges.photons}

    def limit(inside: Ranges, number: int, seed: int) -> dict[str, Limit]:
        some = track(light.items(), "Physical limit", transient=True)
        return {
            name: _limit(replace(inside, photons=span), rig, known_tissue, number, seed + place)
            for place, (name, span) in enumerate(some)
        }

    by_photons = limit(ranges, number, seed)
    found = {"all": _mean(by_photons)} | by_photons
    others = parts(ranges, tuple(name for name in names if name != "photons"))
    for place, (part, (name, low, high)) in enumerate(others.items(), start=1):
        inside = replace(ranges, **{name: (low, high)})
        found[part] = _mean(limit(inside, number // len(light), seed + place * len(light)))
    return found


def make_limits(number: int = 5000, file: Path = FILE) -> None:
    """Compute the limits that ship; half an hour."""
    made = {name: computed(Ranges(), Rig(), name == "known", number) for name in ("known", "unknown")}
    write_text(file, json.dumps(made, indent=1) + "\n")


def _limit(inside: Ranges, rig: Rig, known_tissue: bool, number: int, seed: int) -> Limit:
    """Of scenes from ranges. What is least for known tissue is no more for unknown tissue, so of this the
    greater one is told."""
    some = [_bound(inside, rig, known, number, seed) for known in {True, known_tissue}]
    return {name: max(one[name] for one in some) for name in OUTPUTS}


@cache
def _bound(inside: Ranges, rig: Rig, known: bool, number: int, seed: int) -> Limit:
    return bound(Prior.draw(inside, number, known, torch.Generator().manual_seed(seed)), rig)


def _mean(limits: dict[str, Limit]) -> Limit:
    return {name: sum(one[name] for one in limits.values()) / len(limits) for name in OUTPUTS}
