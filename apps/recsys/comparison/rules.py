"""What tells the next item without a sequence model: counts, neighbours, factors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from apps.common.compare import Arm, Cost, Fitted, Trial
from apps.recsys.comparison.next_item import Told, data_for
from apps.recsys.data import Data
from apps.recsys.metrics import ndcg
from apps.recsys.ranked import TOP, fame_of, ranked
from apps.recsys.recommender import known_only
from apps.recsys.sequences import FIRST, HELD_OUT, Walk, Walks

LOOKED_AT = 5
"""Epochs of a factorisation between looks at validation."""


def rules(budget: Mapping[str, Any]) -> dict[str, Arm]:
    """What needs no network of its own kind."""
    return {"popularity": Popularity(budget), "item_knn": Neighbours(budget), "bpr": Factors(budget)}


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
        """Stochastic gradients over pairs of an item that a user took and one at random; the state of best
        validation NDCG is kept, looked at every few epochs."""
        torch.manual_seed(seed)
        walks, number, dim = data.walks("train"), len(data.catalogue), self.budget["factors"]
        items = walks.walk.items
        known = items >= FIRST
        user = torch.from_numpy(walks.user)[:, None].expand_as(items)[known]
        taken = items[known]
        most = max(int(data.walks(part).user.max()) for part in ("train", *HELD_OUT))
        people, things = nn.Embedding(most + 1, dim), nn.Embedding(number, dim + 1)
        nn.init.normal_(people.weight, std=0.1)
        nn.init.normal_(things.weight, std=0.1)
        chosen = [people.weight, things.weight]
        optimizer = torch.optim.Adam(chosen, trial["learning_rate"], weight_decay=trial["weight_decay"])
        asked = {part: _numbers(data.walks(part)) for part in HELD_OUT}
        best, kept = -1.0, torch.empty(0)
        for epoch in range(1, self.budget["factor_epochs"] + 1):
            for rows in torch.split(torch.randperm(len(taken)), 1024):
                other = torch.randint(FIRST, number, (len(rows),))
                who = F.pad(people(user[rows]), (0, 1), value=1.0)
                ahead = (who * (things(taken[rows]) - things(other))).sum(1)
                optimizer.zero_grad()
                torch.autograd.backward(-F.logsigmoid(ahead).mean())
                optimizer.step()
            if epoch % LOOKED_AT == 0 or epoch == self.budget["factor_epochs"]:
                factors = F.pad(people.weight.detach(), (0, 1), value=1.0) @ things.weight.detach().T
                gain = self._gain(data, factors, asked["validation"])
                if gain > best:
                    best, kept = gain, factors
        numbers = asked["validation"] | asked["test"]
        return lambda walk: known_only(kept[_rows(walk, numbers)]), kept.numel()

    @staticmethod
    def _gain(data: Data, factors: Tensor, numbers: dict[tuple[int, ...], int]) -> float:
        fame = fame_of(data.walks("train"), len(data.catalogue))
        told = ranked(lambda walk: known_only(factors[_rows(walk, numbers)]), data.walks("validation"), fame)
        return float(ndcg(told.rank, TOP).mean())


def _numbers(walks: Walks) -> dict[tuple[int, ...], int]:
    """Users by all that they took before and the item that came, as windows do not tell whose they are."""
    return {_name(walks.walk, row): int(user) for row, user in enumerate(walks.user)}


def _rows(walk: Walk, numbers: dict[tuple[int, ...], int]) -> list[int]:
    return [numbers[_name(walk, row)] for row in range(len(walk.items))]


def _name(walk: Walk, row: int) -> tuple[int, ...]:
    return (*walk.seen[row].tolist(), -1, *walk.items[row].tolist())
