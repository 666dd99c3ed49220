"""The arms of the comparison: the routed ranker, its controls, and what the field would pick instead."""

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from apps.common.compare import Arm
from apps.recsys.bodies import HoME
from apps.recsys.comparison.networks import Network, networks
from apps.recsys.comparison.peers import BoostedTrees, Rechub
from apps.recsys.comparison.rules import rules
from apps.recsys.comparison.sequences import Sequential, recommenders
from apps.recsys.simulate import simulate
from apps.recsys.source import SIMULATED


def arms(budget: Mapping[str, Any]) -> dict[str, Arm]:
    """Every arm for one budget: epochs, sizes of networks, trials (see configs/recsys/compare.yaml)."""
    if budget.get("protocol") == "next_item":
        made_next = recommenders(budget)
        return {name: Sequential(budget, name, make) for name, make in made_next.items()} | rules(budget)
    made = dict(networks(budget))
    like = partial(HoME, **budget["bodies"]["home"])
    for kind in ("mmoe", "ple"):
        made[f"rechub_{kind}"] = partial(Rechub, kind, like, **budget["network"])
    found: dict[str, Arm] = {name: Network(budget, name, make) for name, make in made.items()}
    return found | {"gbdt": BoostedTrees(budget)}


def data_sha256(name: str) -> str | None:
    """The hash of the simulated log; other names are the catalogue's."""
    if name != SIMULATED:
        return None
    return hashlib.sha256(simulate().to_csv(index=False).encode()).hexdigest()
