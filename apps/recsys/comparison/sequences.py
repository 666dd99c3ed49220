"""Arms that tell the next item: AW-MoE and OneRec, their controls, and the usual tools."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from collegium import inspection
from collegium.layer import moe_layers
from lightning import seed_everything
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from apps.common.compare import Arm, Cost, Fitted, Outcome, Trial, Value
from apps.common.compare.arms import Place
from apps.common.compare.training import fit_best
from apps.common.controls import Control, DenseFFN, Kind, MixtureFFN
from apps.recsys.aw_moe import AWMoE
from apps.recsys.comparison.networks import size_of
from apps.recsys.data import Data
from apps.recsys.encoding import Sizes
from apps.recsys.metrics import coverage, hits, ndcg
from apps.recsys.onerec import OneRec
from apps.recsys.preference import AlignedOneRec
from apps.recsys.ranked import TOP, Ranked, fame_of, hits_of, parts, ranked
from apps.recsys.recommender import Recommender, SelfAttention, known_only
from apps.recsys.sequences import FIRST, HELD_OUT, Walk, Walks
from apps.recsys.task import Task

UNITS = 100
"""Test units: as many groups of users."""


class FrozenRouter(OneRec):
    """OneRec whose routers stay as they were drawn."""

    def _make(self, profile: Sizes, items: int, length: int) -> None:
        super()._make(profile, items, length)
        for layer in moe_layers(self).values():
            layer.router.requires_grad_(False)


class FrozenUnits(AWMoE):
    """AW-MoE whose units, which weigh the experts, stay as they were drawn."""

    def _make(self, profile: Sizes, items: int, length: int) -> None:
        super()._make(profile, items, length)
        for unit in (self.of_behaviour, self.of_state, self.of_both, self.gate_unit, self.activation_unit):
            unit.requires_grad_(False)


class OneExpert(SelfAttention):
    """Self-attention with one perceptron in place of AW-MoE's experts and units, as large as all of them.

    Args:
        options: of AW-MoE.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{key: options[key] for key in ("dim", "depth", "heads")})
        self.options = options

    def _make(self, profile: Sizes, items: int, length: int) -> None:
        super()._make(profile, items, length)
        with torch.random.fork_rng():
            twin = AWMoE(**self.options)
            twin.build(profile, items, length)
        more = size_of(twin) - size_of(self)
        self.expert = DenseFFN(self.dim, round(more / (2 * self.dim)), "relu")

    def _read(self, history: Tensor) -> Tensor:
        states = super()._read(history)
        return states + torch.as_tensor(self.expert(states))


def recommenders(budget: Mapping[str, Any]) -> dict[str, Callable[[], Recommender]]:
    """Name -> a new network, none of them built yet. The budget says which is the routed one."""
    sizes = budget["recommenders"]
    attention = {"sasrec": partial(SelfAttention, **sizes["sasrec"])}
    if budget["routed"] == "aw_moe":
        own = dict(sizes["aw_moe"])
        return attention | {
            "routed": partial(AWMoE, **own),
            "no_contrast": partial(AWMoE, **{**own, "contrast": 0.0}),
            "dense_total": partial(OneExpert, **own),
            "random_router": partial(FrozenUnits, **own),
        }
    one = dict(sizes["onerec"])
    mixture = partial(MixtureFFN, **one.pop("mixture"))

    def onerec(kind: Kind) -> OneRec:
        return OneRec(**one, feed_forward=Control(kind, mixture))

    return attention | {
        "aligned": partial(AlignedOneRec, **sizes["aligned"], **one, feed_forward=mixture),
        "routed": partial(onerec, "routed"),
        "dense_active": partial(onerec, "dense_active"),
        "dense_total": partial(onerec, "dense_total"),
        "random_router": partial(FrozenRouter, **one, feed_forward=mixture),
    }


def rules(budget: Mapping[str, Any]) -> dict[str, Arm]:
    """What needs no network of its own kind."""
    return {"popularity": Popularity(budget), "item_knn": Neighbours(budget), "bpr": Factors(budget)}


def data_for(name: str, budget: Mapping[str, Any], seed: int = 0) -> Data:
    """The module of a set of the comparison, read; every seed has the same windows in another order."""
    options = {"rows": budget["rows"]} if "rows" in budget else {}
    data = Data(
        name=name,
        protocol="next_item",
        history=budget["history"],
        batch_size=budget["batch_size"],
        order=seed,
        **options,
    )
    data.setup()
    return data


class Sequential(Arm):
    """A recommender, trained as `make train` does; the epoch of greatest validation NDCG is kept.

    Args:
        budget: epochs, history, batch_size, trials, sizes (see configs/recsys/compare.yaml).
        name: of the arm.
        make: builds it.
    """

    def __init__(self, budget: Mapping[str, Any], name: str, make: Callable[[], Recommender]) -> None:
        self.budget, self.name, self.make = budget, name, make
        self.trials = budget["trials"]["recommenders"]
        kind = "sasrec" if name == "sasrec" else budget["routed"]
        own = budget["recommenders"]["aligned"] if name == "aligned" else {}
        self.settings = {"recommender": kind, "sizes": budget["recommenders"][kind], **own}

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Train with Lightning."""
        module = data_for(data, self.budget, seed)
        seed_everything(seed, verbose=False)
        network = self.make()
        network.dropout = trial.get("dropout", network.dropout)
        balanced = isinstance(network, OneRec) and self.name in ("routed", "aligned")
        balance: dict[str, Any] = {"BiasBalance": 0.001} if balanced else {}
        task = Task(network, balance, learning_rate=trial["learning_rate"])
        fit_best(task, module, self.budget["epochs"], seed)
        walk = module.walks("validation").__getitems__([0])
        active, total = inspection.parameters(network)
        return Told(network.scores, module, Cost(active, total, flops(network, walk)))


def flops(network: Recommender, walk: Walk) -> float:
    """Of one user's scores."""
    return float(inspection.flops(Scores(network), walk))


class Scores(nn.Module):
    """A recommender as a module whose forward is its scores."""

    def __init__(self, network: Recommender) -> None:
        super().__init__()
        self.network = network

    def forward(self, walk: Walk) -> Tensor:
        """(B, I)."""
        return self.network.scores(walk)


class Rule(Arm):
    """Scores from counts or factors of the training windows."""

    def __init__(self, budget: Mapping[str, Any]) -> None:
        self.budget, self.trials = budget, budget["trials"].get(self.name, [{}])

    name: str

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Count, or factorise."""
        module = data_for(data, self.budget, seed)
        ask, size = self.learn(module, trial, seed)
        return Told(ask, module, Cost(active_params=size, total_params=size))

    @abstractmethod
    def learn(self, data: Data, trial: Trial, seed: int) -> tuple[Callable[[Walk], Tensor], int]:
        """What gives scores (B, I), and how many numbers it keeps."""


class Popularity(Rule):
    """Items by how often they were taken."""

    name, seeded = "popularity", False

    def learn(self, data: Data, trial: Trial, seed: int) -> tuple[Callable[[Walk], Tensor], int]:
        """Count."""
        fame = torch.from_numpy(fame_of(data.walks("train"), len(data.catalogue))).double()
        return lambda walk: known_only(fame.expand(len(walk.items), -1)), len(fame)


class Neighbours(Rule):
    """Items that were taken by the same users (Sarwar et al. 2001), the newest of a history counting most."""

    name, seeded = "item_knn", False

    def learn(self, data: Data, trial: Trial, seed: int) -> tuple[Callable[[Walk], Tensor], int]:
        """Cosines of the items' users, the nearest `neighbours` of each."""
        walks, number = data.walks("train"), len(data.catalogue)
        every = cosines(walks, number)
        kept = np.sort(every, axis=1)[:, -min(trial["neighbours"], number)]
        near = torch.from_numpy(np.where(every >= kept[:, None], every, 0))

        def ask(walk: Walk) -> Tensor:
            ago = torch.arange(walk.history.shape[1] - 1, -1, -1)
            weight = trial["fading"] ** ago * (walk.history > 0)
            return known_only((near[walk.history] * weight[..., None]).sum(1))

        return ask, int((near > 0).sum())


def cosines(walks: Walks, number: int) -> np.ndarray:
    """(I, I) cosine of the users of two items, 0 of an item and itself."""
    items = walks.walk.items.numpy()
    user = np.repeat(walks.user, items.shape[1])
    known = items.ravel() >= FIRST
    taken = csr_matrix(
        (np.ones(known.sum()), (user[known], items.ravel()[known])), shape=(user.max() + 1, number)
    )
    taken.data[:] = 1
    together = (taken.T @ taken).toarray()
    length = np.sqrt(np.maximum(together.diagonal(), 1e-12))
    near = together / length[:, None] / length
    np.fill_diagonal(near, 0)
    return np.asarray(near)


class Factors(Rule):
    """Matrix factorisation by Bayesian personalised ranking (Rendle et al. 2009)."""

    name = "bpr"

    def learn(self, data: Data, trial: Trial, seed: int) -> tuple[Callable[[Walk], Tensor], int]:
        """Stochastic gradients over pairs of an item that a user took and one at random."""
        torch.manual_seed(seed)
        walks, number, dim = data.walks("train"), len(data.catalogue), self.budget["factors"]
        items = walks.walk.items
        known = items >= FIRST
        user = torch.from_numpy(walks.user)[:, None].expand_as(items)[known]
        taken = items[known]
        people, things = nn.Embedding(int(walks.user.max()) + 1, dim), nn.Embedding(number, dim + 1)
        nn.init.normal_(people.weight, std=0.1)
        nn.init.normal_(things.weight, std=0.1)
        chosen = [people.weight, things.weight]
        optimizer = torch.optim.Adam(chosen, trial["learning_rate"], weight_decay=trial["weight_decay"])
        for _ in range(self.budget["factor_epochs"]):
            for rows in torch.split(torch.randperm(len(taken)), 1024):
                other = torch.randint(FIRST, number, (len(rows),))
                who = F.pad(people(user[rows]), (0, 1), value=1.0)
                ahead = (who * (things(taken[rows]) - things(other))).sum(1)
                optimizer.zero_grad()
                torch.autograd.backward(-F.logsigmoid(ahead).mean())
                optimizer.step()
        factors = F.pad(people.weight.detach(), (0, 1), value=1.0) @ things.weight.detach().T
        number_of = {tuple(w): u for part in HELD_OUT for w, u in _users(data.walks(part))}
        return lambda walk: known_only(
            factors[[number_of[tuple(w)] for w in walk.items.tolist()]]
        ), factors.numel()


def _users(walks: Walks) -> list[tuple[list[int], int]]:
    return list(zip(walks.walk.items.tolist(), walks.user.tolist(), strict=True))


class Told(Fitted):
    """What gives scores for windows."""

    def __init__(self, ask: Callable[[Walk], Tensor], data: Data, cost: Cost) -> None:
        self.ask, self.data, self.cost = ask, data, cost
        self.fame = fame_of(data.walks("train"), len(data.catalogue))
        self.validation = 1 - float(ndcg(ranked(ask, data.walks("validation"), self.fame).rank, TOP).mean())

    def test(self) -> Outcome:
        """Open the test items."""
        walks = self.data.walks("test")
        return outcome(ranked(self.ask, walks, self.fame), walks.user, self.cost)


def outcome(found: Ranked, user: np.ndarray, cost: Cost) -> Outcome:
    """Hits and NDCG at ten, the reciprocal rank and coverage; of parts of the users hits and NDCG."""
    values: list[Value] = [Value("all", f"coverage_{TOP}", coverage(found.top, found.items), True)]
    units: dict[Place, np.ndarray] = {}
    weights: dict[Place, np.ndarray] = {}
    measures = {f"hr_{TOP}": hits, f"ndcg_{TOP}": ndcg}
    for name, some in parts(found):
        own = user if name == "all" else None
        for metric, measure in measures.items():
            each = measure(some.rank, TOP)
            values.append(Value(name, metric, float(each.mean()), True))
            if own is not None:
                rows = np.bincount(own % UNITS, minlength=UNITS)
                there = rows > 0
                units[name, metric] = (
                    np.bincount(own % UNITS, weights=each, minlength=UNITS)[there] / rows[there]
                )
                weights[name, metric] = rows[there].astype(float)
    for name, label in (("liked", 1), ("not", 0)):
        if (found.liked == label).any():
            values.append(Value("all", f"hr_{TOP}_{name}", hits_of(found, label), True))
    values.append(Value("all", "mrr", float((1 / found.rank).mean()), True))
    return Outcome(values, units, cost, weights)
