"""Arms that tell the next item: AW-MoE or OneRec, their controls, and self-attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from collegium import inspection
from lightning import seed_everything
from torch import Tensor, nn

from apps.common.compare import Arm, Cost, Fitted, Trial
from apps.common.compare.training import fit_best
from apps.common.controls import Control, DenseFFN, Kind, MixtureFFN, freeze_routers
from apps.recsys.aw_moe import AWMoE
from apps.recsys.comparison.networks import size_of
from apps.recsys.comparison.next_item import Told, data_for
from apps.recsys.encoding import Sizes
from apps.recsys.onerec import OneRec
from apps.recsys.preference import AlignedOneRec
from apps.recsys.recommender import Recommender, SelfAttention
from apps.recsys.sequences import Walk
from apps.recsys.task import Task


class FrozenRouter(OneRec):
    """OneRec whose routers stay as they were drawn."""

    def _make(self, profile: Sizes, items: int, length: int) -> None:
        super()._make(profile, items, length)
        freeze_routers(self)


class FrozenUnits(AWMoE):
    """AW-MoE whose units, which weigh the experts, stay as they were drawn."""

    def _make(self, profile: Sizes, items: int, length: int) -> None:
        super()._make(profile, items, length)
        for unit in (self.of_behaviour, self.of_state, self.of_both, self.gate_unit, self.activation_unit):
            unit.requires_grad_(False)


class OneExpert(SelfAttention):
    """Self-attention with one perceptron in place of AW-MoE's experts and units, as large as all of them.

    Like them it adds nothing at first.

    Args:
        options: of AW-MoE.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{key: options[key] for key in ("dim", "depth", "heads", "few")})
        self.options = options

    def _make(self, profile: Sizes, items: int, length: int) -> None:
        super()._make(profile, items, length)
        with torch.random.fork_rng():
            twin = AWMoE(**self.options)
            twin.build(profile, items, length)
        more = size_of(twin) - size_of(self)
        self.expert = DenseFFN(self.dim, round(more / (2 * self.dim)), "relu")
        nn.init.zeros_(self.expert.expert.down)

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
            "no_masking": partial(AWMoE, **{**own, "contrast": 0.0, "few": 0.0}),
            "dense_total": partial(OneExpert, **own),
            "random_router": partial(FrozenUnits, **own),
            "sasrec_masked": partial(SelfAttention, **sizes["sasrec"], few=own["few"]),
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


class Sequential(Arm):
    """A recommender, trained by the module of `make train`; the epoch of greatest validation NDCG is kept.

    Args:
        budget: epochs, history, batch_size, trials, sizes (see configs/recsys/compare.yaml).
        name: of the arm.
        make: builds it.
    """

    def __init__(self, budget: Mapping[str, Any], name: str, make: Callable[[], Recommender]) -> None:
        self.budget, self.name, self.make = budget, name, make
        self.trials = budget["trials"]["recommenders"]
        kind = "sasrec" if name.startswith("sasrec") else budget["routed"]
        own = budget["recommenders"]["aligned"] if name == "aligned" else {}
        balanced = budget["routed"] == "onerec" and name in ("routed", "aligned")
        self.balance: dict[str, Any] = {"BiasBalance": 0.001} if balanced else {}
        self.settings = {"recommender": kind, "sizes": budget["recommenders"][kind], **own, **self.balance}

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Train with Lightning."""
        module = data_for(data, self.budget, seed)
        seed_everything(seed, verbose=False)
        network = self.make()
        network.dropout = trial.get("dropout", network.dropout)
        task = Task(network, dict(self.balance), learning_rate=trial["learning_rate"])
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
