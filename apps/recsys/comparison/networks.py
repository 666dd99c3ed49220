"""Networks of the comparison: HoME, its controls, and the classics, all of one size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from collegium import inspection
from lightning import seed_everything
from torch import nn

from apps.common.compare import Arm, Cost, Fitted, Outcome, Trial
from apps.common.compare.training import fit_best
from apps.common.controls import freeze_routers
from apps.recsys import bodies
from apps.recsys.bodies import Body
from apps.recsys.comparison.outcome import outcome, score
from apps.recsys.data import Data
from apps.recsys.encoding import Sizes
from apps.recsys.health import health, looked_at, summary
from apps.recsys.levels import Groups
from apps.recsys.metrics import FEWEST
from apps.recsys.model import Ranker, Separate
from apps.recsys.scored import scored
from apps.recsys.task import Task

Make = Callable[[int, Groups], Body]
Made = TypeVar("Made", bound=nn.Module)


class FrozenRouter(Ranker):
    """A ranker whose gates stay as they were drawn."""

    def build(self, *given: Any, **options: Any) -> None:
        """Make the parameters, and freeze the routers."""
        super().build(*given, **options)
        freeze_routers(self)


def networks(budget: Mapping[str, Any]) -> dict[str, Callable[[], Ranker]]:
    """Name -> a new network, none of them built yet."""
    options, sizes = dict(budget["network"]), budget["bodies"]
    home = partial(bodies.HoME, **sizes["home"])
    plain: dict[str, Callable[..., Body]] = {
        "mmoe": partial(bodies.MMoE, **sizes["mmoe"]),
        "ple": partial(bodies.PLE, **sizes["ple"]),
        "shared_bottom": partial(bodies.SharedBottom, **sizes["shared_bottom"]),
    }
    like = {name: partial(of_size, make, home) for name, make in plain.items()}
    return {
        "routed": partial(Ranker, home, **options),
        "random_router": partial(FrozenRouter, home, **options),
        "dense_total": partial(Ranker, like["shared_bottom"], **options),
        "mmoe": partial(Ranker, like["mmoe"], **options),
        "ple": partial(Ranker, like["ple"], **options),
        "shared_bottom": partial(Ranker, plain["shared_bottom"], **options),
        "single_task": partial(Separate, plain["shared_bottom"], **options),
    }


def of_size(
    make: Callable[..., Made],
    like: Make,
    width: int,
    groups: Groups,
    measure: Callable[[nn.Module], int] | None = None,
) -> Made:
    """A body whose hidden width makes it as large as another, as near as can be.

    Args:
        make: (width, groups, hidden=...) -> the body.
        like: (width, groups) -> the other.
        width, groups: of both.
        measure: the size of the body, where that is not all its parameters.
    """
    state, measure = torch.get_rng_state(), measure or size_of

    def size(hidden: int) -> int:
        return measure(make(width, groups, hidden=hidden))

    wanted, low, high = size_of(like(width, groups)), 1, 2
    while size(high) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < wanted else (low, middle)
    sizes = {hidden: abs(size(hidden) - wanted) for hidden in (low, high)}
    torch.set_rng_state(state)
    return make(width, groups, hidden=min(sizes, key=lambda hidden: sizes[hidden]))


def size_of(body: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in body.parameters())


class Network(Arm):
    """A network, trained by the module of `make train`; the epoch of greatest validation AUC is kept.

    Args:
        budget: epochs, batch_size, trials, sizes (see configs/recsys/compare.yaml).
        name: of the arm.
        make: builds it.
    """

    def __init__(self, budget: Mapping[str, Any], name: str, make: Callable[[], Ranker]) -> None:
        self.budget, self.name, self.make = budget, name, make
        self.trials = budget["trials"].get(name, budget["trials"]["networks"])
        sizes = [budget["network"], budget["bodies"]]
        self.settings = {"network": name, "sizes": sizes, "chosen_by": FEWEST}

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Train with Lightning."""
        module = data_for(data, self.budget, seed)
        seed_everything(seed, verbose=False)
        network = self.make()
        if "dropout" in trial:
            network.dropout = trial["dropout"]
        task = Task(
            network,
            learning_rate=trial["learning_rate"],
            weight_decay=trial.get("weight_decay", 0.0),
        )
        fit_best(task, module, self.budget["epochs"], seed)
        return FittedNetwork(network, module, self.budget["fewest"])


class FittedNetwork(Fitted):
    """A trained network; a task counts in the mean if it has so many positives in the test rows."""

    def __init__(self, network: Ranker, data: Data, fewest: int) -> None:
        self.network, self.data, self.fewest = network, data, fewest
        self.validation = score(scored(network, data.part("validation")))

    def test(self) -> Outcome:
        """Open the test rows."""
        rows = self.data.part("test")
        active, total = inspection.parameters(self.network)
        cost = Cost(active, total, float(inspection.flops(self.network, rows.__getitems__([0]))))
        batch = looked_at(rows).batch
        experts = health(self.network, batch)
        ill = summary(experts, self.network, batch) if experts else {}
        return outcome(scored(self.network, rows), cost, self.fewest, ill)


def data_for(name: str, budget: Mapping[str, Any], seed: int = 0) -> Data:
    """The module of a set of the comparison, read; every seed has the same rows in another order."""
    data = Data(name=name, batch_size=budget["batch_size"], batch_seed=seed, **budget.get("data", {}))
    data.setup()
    return data


def sizes_of(data: Data) -> Sizes:
    """Of the encoder of a module that was read."""
    return data.encoder.sizes
