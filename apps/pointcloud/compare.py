"""The arms of the comparison: Point-MoE, its controls, and what the field would pick instead."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from apps.common.compare import Arm, Cost, Fitted, Outcome, Trial
from apps.pointcloud.comparison.networks import KINDS, Network, OnePerDomain
from apps.pointcloud.comparison.outcome import outcome, score
from apps.pointcloud.comparison.sets import Set, set_of, sha256_of
from apps.pointcloud.data import Data
from apps.pointcloud.forest import NEAR, Forest, geometry
from apps.pointcloud.sheet import Part
from apps.pointcloud.told import Told


def arms(budget: Mapping[str, Any]) -> dict[str, Arm]:
    """Every arm for one budget (see configs/pointcloud/compare.yaml)."""
    networks = {name: Network(budget, name) for name in (*KINDS, "domain_norm", *budget.get("networks", {}))}
    return {
        **networks,
        "one_per_domain": OnePerDomain(budget, "one_per_domain"),
        "geometric_forest": Trees(budget),
    }


def data_sha256(name: str) -> str:
    """The hash of the scans of a set."""
    return sha256_of(name)


class Trees(Arm):
    """A forest for each domain; for an unseen one, a forest on all others."""

    def __init__(self, budget: Mapping[str, Any]) -> None:
        self.budget, self.trials = budget, budget["trials"]["geometric_forest"]
        self.settings = {"near": NEAR}

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Grow them."""
        found = set_of(data, self.budget, seed)
        scans = found.train.part("train")
        groups = (
            [scans]
            if found.unseen
            else [
                [scan for scan in scans if scan.domain == number]
                for number in range(len(found.train.sheet.domains))
            ]
        )
        return FittedTrees([Forest(seed=seed, **trial).fit(own) for own in groups], found)


class FittedTrees(Fitted):
    """Grown forests."""

    def __init__(self, forests: list[Forest], found: Set) -> None:
        self.forests, self.found = forests, found
        self.validation = score(self.tell(found.train, "validation"), found.train)

    def tell(self, data: Data, part: Part) -> Told:
        """Label scans."""
        scans = data.part(part)
        classes = self.found.classes if data is self.found.test else data.classes
        seen, began = [geometry(scan) for scan in scans], time.process_time()
        labels = [
            self.forests[scan.domain % len(self.forests)].predict(own, classes[scan.domain])[scan.of_point]
            for scan, own in zip(scans, seen, strict=True)
        ]
        return Told(scans, labels, time.process_time() - began)

    def test(self) -> Outcome:
        """Open the test scans."""
        return outcome(self.tell(self.found.test, "test"), self.found, Cost())
