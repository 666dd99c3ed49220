"""Networks of the comparison: Point-MoE, its controls, one network a domain, and one that is told domains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from collegium import inspection, routers
from lightning import seed_everything
from torch import Tensor, nn

from apps.common.compare import Arm, Cost, Fitted, Outcome, Trial
from apps.common.compare.training import fit_best
from apps.common.controls import KINDS as CONTROLS
from apps.common.controls import Control, Kind, MixtureFFN
from apps.common.errors import UserError
from apps.pointcloud.comparison.outcome import outcome, score
from apps.pointcloud.comparison.sets import Set, set_of
from apps.pointcloud.data import Data, Tiles
from apps.pointcloud.model import PointMoE, Points
from apps.pointcloud.task import Task
from apps.pointcloud.told import Told, tell

Ask = Callable[[Points], Tensor]
KINDS: dict[str, Kind] = {
    "routed": "routed",
    "balanced": "routed",
    "dense_active": "dense_active",
    "dense_total": "dense_total",
    "random_router": "random_router",
}


def network(budget: Mapping[str, Any], name: str) -> PointMoE:
    """A new network, not built yet. What is told of domains, and each of one domain, is dense.

    What has an entry of its own below `networks` is routed, and of other sizes or with experts in its
    feed-forward blocks too. The routed arm and its controls are that which the budget calls `routed`, if any.
    """
    own = own_of(budget, name)
    options = {**budget["network"], **own.get("network", {})}
    told = {**budget["mixture"], **own.get("mixture", {})}
    kind: Kind = KINDS.get(name, "routed" if own else "dense_active")
    k = told.pop("k")
    router = partial(routers.TopK, k=k, renormalize=k > 1)
    mixture = partial(MixtureFFN, router=router, **told)
    project: Callable[[int], nn.Module] = Control(kind, mixture)
    if options.pop("routed_feed", False):
        options["feed"] = project
    return PointMoE(project=project, told_domain=name == "domain_norm", **options)


def own_of(budget: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What the budget says below `networks` of an arm alone."""
    own: Mapping[str, Any] = budget.get("networks", {}).get(
        budget.get("routed") if name in CONTROLS else name, {}
    )
    return own


class Network(Arm):
    """A network on all domains, trained as `make train` does; the epoch of greatest validation mIoU is kept.

    Args:
        budget: crops, points, epochs, sizes, trials (see configs/pointcloud/compare.yaml).
        name: of the arm.
    """

    def __init__(self, budget: Mapping[str, Any], name: str) -> None:
        self.budget, self.name, self.trials = budget, name, budget["trials"]["networks"]
        balance = {"load_balance": budget["balance"]} if name == "balanced" else {}
        self.balance: dict[str, Any] = balance
        own = own_of(budget, name)
        self.settings = {"network": name, "balance": balance} | ({"own": own} if own else {})

    def same_as(self, data: str, trial: Trial) -> tuple[str, Trial] | None:
        """The arm that the budget calls `routed`."""
        return (self.budget["routed"], trial) if self.name == "routed" and "routed" in self.budget else None

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Train with Lightning."""
        found = set_of(data, self.budget, seed)
        made = self.train(found.train, trial, seed, self.budget["crops"])
        return FittedNetwork(made, made, found)

    def train(self, data: Data, trial: Trial, seed: int, crops: int) -> PointMoE:
        """A network, trained on so many crops an epoch."""
        data.crops = crops
        seed_everything(seed, verbose=False)
        task = Task(network(self.budget, self.name), dict(self.balance), learning_rate=trial["learning_rate"])
        fit_best(task, data, self.budget["epochs"], seed)
        return task.network


class OnePerDomain(Network):
    """A network for each domain, which together see as many crops as one on all.

    A batch has as many crops of its domain as one of the joint network has, so that each takes as many steps.
    Of each the epoch is kept that validates best on its own domain.
    """

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Train each on its own domain."""
        found = set_of(data, self.budget, seed)
        domains = found.train.sheet.domains
        crops, size = self.budget["crops"], self.budget["batch_size"]
        if crops % len(domains) or size % len(domains):
            raise UserError(
                f"crops {crops} and batch_size {size} must be multiples of {len(domains)}, the domains."
            )
        made = []
        for domain in domains:
            own = set_of(data, self.budget, seed).train
            own.sheet, own.shares = own.sheet.only([domain.name]), np.ones(1)
            own.batch_size = size // len(domains)
            made.append(self.train(own, trial, seed, crops // len(domains)))
        return FittedNetwork(partial(by_domain, made), made[0], found, len(made))


@torch.no_grad()
def by_domain(networks: Sequence[Ask], points: Points) -> Tensor:
    """Scores of a batch of one domain, by its own network, to which it is the first."""
    own = networks[int(points.domain[0])]
    return own(points._replace(domain=torch.zeros_like(points.domain)))


class FittedNetwork(Fitted):
    """Trained networks.

    Args:
        ask: cells to scores.
        one: a network, of which the cost is told.
        found: the set.
        number: of networks like it.
    """

    def __init__(self, ask: Ask, one: PointMoE, found: Set, number: int = 1) -> None:
        self.ask, self.one, self.found, self.number = ask, one, found, number
        data = found.train
        self.validation = score(tell(ask, data.part("validation"), data.classes, data.points), data)

    def test(self) -> Outcome:
        """Open the test scans."""
        data = self.found.test
        told: Told = tell(self.ask, data.part("test"), self.found.classes, data.points)
        active, total = inspection.parameters(self.one)
        points = Tiles(data.part("test"), self.found.classes, data.points).some(1).points
        flops = float(inspection.flops(self.one, points)) / len(points.cell)
        return outcome(told, self.found, Cost(active, self.number * total, flops))
