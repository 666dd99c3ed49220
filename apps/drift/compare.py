"""The arms of the comparison: the mixture, its controls, DriftMoE as published, and other ensembles.

Those of the fair mixture are in `apps.drift.comparison.fair_arms`.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
from river import ensemble, forest, tree

from apps.common.compare import Arm
from apps.drift.comparison.fair_arms import fair_arms
from apps.drift.comparison.learners import Floor, Network, River
from apps.drift.comparison.moa import MoaForest
from apps.drift.metrics import majority, no_change
from apps.drift.streams import RECIPES, generate

TREES = 10
"""Trees of each ensemble."""


def arms(budget: Mapping[str, Any]) -> dict[str, Arm]:
    """Every arm for one budget: rows, networks and their trials (see configs/drift/compare.yaml)."""
    if budget.get("protocol") == "fair":
        return fair_arms(budget)
    slow = budget.get("slow", [])
    networks = {name: Network(budget, name, 3 if name in slow else None) for name in budget["networks"]}
    peers: dict[str, Callable[..., Any]] = {
        "arf": partial(forest.ARFClassifier, n_models=TREES),
        "srp": partial(ensemble.SRPClassifier, n_models=TREES),
        "levbag": partial(
            ensemble.LeveragingBaggingClassifier, tree.HoeffdingTreeClassifier(), n_models=TREES
        ),
        "adaptive_tree": tree.HoeffdingAdaptiveTreeClassifier,
        "hoeffding_tree": lambda seed, **options: tree.HoeffdingTreeClassifier(**options),
    }
    river: dict[str, Arm] = {name: River(budget, make, name) for name, make in peers.items()}
    floors: dict[str, Arm] = {"majority": Floor(budget, majority), "no_change": Floor(budget, no_change)}
    return {**networks, **river, "moa_arf": MoaForest(budget, TREES), **floors}


def data_sha256(name: str) -> str | None:
    """The hash of the beginning of a generated stream; other names are the catalogue's."""
    if name not in RECIPES:
        return None
    frame, _ = generate(name, 1000)
    return hashlib.sha256(pd.util.hash_pandas_object(frame).to_numpy().tobytes()).hexdigest()
