"""Generated streams whose concept drifts, by river's generators, and one of people.

The concepts of river are those of DriftMoE's streams (arXiv 2507.18464, section 4, and its released data
loader); drifts come at a quarter, a half and three quarters of a stream, whatever its length.

`hiring` is for fairness: eight features of an application, the `group` of who applies, 0 or 1, and whether
they were hired, 1 or 0, by people who are prejudiced against group 1 all along. A drift in accuracy comes at
a third: the work asks for experience instead of skill. A drift in fairness comes at two thirds: group 1 is
given far fewer referrals. What is made of an application stays as it was, and a model that goes on as before
is no worse at telling it, but hires far fewer of group 1. The district tells the group to models that do not
see it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from river.datasets import synth

from apps.drift.fair.hiring import Hiring

ABRUPT = 50
"""Rows that an abrupt drift takes."""
GRADUAL = 0.05
"""Share of the stream that a gradual drift takes."""
NOISE = 0.1
"""Share of labels, or of LED segments, that are noise."""

LENGTH = 20_000
"""Rows, unless they are told."""

Concept = Callable[..., Any]
"""seed -> a generator of river."""


@dataclass(frozen=True)
class Recipe:
    """Concepts one after the other: `at` are the shares of the stream at which the next one comes.

    `read` are options of `apps.drift.data.Data`, as in the catalogue.
    """

    concepts: list[Concept]
    at: list[float] = field(default_factory=list)
    gradual: bool = False
    read: dict[str, Any] = field(default_factory=dict)


def _sea(variants: list[int]) -> list[Concept]:
    return [partial(_make, synth.SEA, variant=variant, noise=NOISE) for variant in variants]


def _led(drifting: list[int]) -> list[Concept]:
    options: dict[str, Any] = {"noise_percentage": NOISE, "irrelevant_features": True}
    return [partial(_make, synth.LEDDrift, n_drift_features=number, **options) for number in drifting]


def _rbf(speed: float) -> list[Concept]:
    options: dict[str, Any] = {"n_classes": 5, "n_features": 10, "n_centroids": 50, "n_drift_centroids": 50}
    return [partial(_make_rbf, change_speed=speed, **options)]


def _make(generator: Callable[..., Any], seed: int, **options: Any) -> Any:
    return generator(seed=seed, **options)


def _make_rbf(seed: int, **options: Any) -> Any:
    return synth.RandomRBFDrift(seed_model=seed, seed_sample=seed + 1, **options)


BY_SKILL, BY_EXPERIENCE = Hiring((2.0, 0.0, 0.7)), Hiring((0.0, 2.0, 0.7))
FEW_REFERRALS = Hiring((0.0, 2.0, 0.7), referral_gap=2.0)
QUARTERS = [0.25, 0.5, 0.75]
RECIPES: dict[str, Recipe] = {
    "sea": Recipe(_sea([0, 2, 1]), [1 / 3, 2 / 3]),
    "sea_a": Recipe(_sea([0, 1, 3, 0]), QUARTERS),
    "sea_g": Recipe(_sea([0, 1, 3, 0]), QUARTERS, gradual=True),
    "led_a": Recipe(_led([1, 3, 5, 7]), QUARTERS),
    "led_g": Recipe(_led([1, 3, 5, 7]), QUARTERS, gradual=True),
    "rbf_m": Recipe(_rbf(1e-4)),
    "rbf_f": Recipe(_rbf(1e-3)),
    "hiring": Recipe(
        [BY_SKILL, BY_EXPERIENCE, FEW_REFERRALS], [1 / 3, 2 / 3], read={"sensitive": "group", "wanted": "1"}
    ),
}
"""name -> what to generate; river numbers the functions of SEA from 0, the papers from 1."""


def generate(name: str, rows: int, seed: int = 0) -> tuple[pd.DataFrame, list[int]]:
    """Return a stream, whose last column is `label`, and the rows at whose middle its concept changes.

    From one concept to the next the share of rows of the new one rises by a sigmoid, as in MOA.

    Args:
        name: a key of `RECIPES`.
        rows: how many.
        seed: of the generators and of the sigmoid's draws.
    """
    recipe = RECIPES[name]
    middles = [round(share * rows) for share in recipe.at]
    width = width_of(name, rows)
    random = np.random.default_rng(seed)
    row = np.arange(rows)
    concept = np.zeros(rows, dtype=int)
    for i, middle in enumerate(middles):
        new = 1 / (1 + np.exp(-4 * np.clip((row - middle) / width, -100, 100)))
        concept[random.random(rows) < new] = i + 1
    own = [np.flatnonzero(concept == i) for i in range(len(recipe.concepts))]
    tables = [_take(make(seed=1000 * seed + i), own[i]) for i, make in enumerate(recipe.concepts)]
    return pd.concat(tables).sort_index(), middles


def width_of(name: str, rows: int) -> int:
    """Rows before the middle of a drift, and behind, in which concepts mix; beyond, one row in fifty does."""
    return round(GRADUAL * rows) if RECIPES[name].gradual else ABRUPT


def _take(stream: Any, rows: np.ndarray) -> pd.DataFrame:
    """As many rows of a stream, numbered as given."""
    pairs = list(islice(stream, len(rows)))
    frame = pd.DataFrame([x for x, _ in pairs], index=rows, dtype=float)
    frame = frame.rename(columns=lambda c: f"x{c}" if isinstance(c, int) else c)
    return frame.assign(label=[int(y) for _, y in pairs])
