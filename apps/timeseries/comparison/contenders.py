"""The networks of the comparison, each built from what its budget says of it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Concatenate, NamedTuple

from collegium import MoE, experts, gates, routers
from torch import nn

from apps.common.controls import Control, Kind, MixtureFFN
from apps.timeseries.model import Forecaster
from apps.timeseries.networks import (
    DistributionBesideRidge,
    DLinear,
    GaussianRidge,
    MixtureHead,
    MoiraiMoE,
    QuantileHead,
    RidgeMoE,
    SMETimes,
    TimeMoE,
)
from apps.timeseries.networks.peers import nhits, patchtst
from apps.timeseries.networks.smetimes import LinearMixture

Budget = Mapping[str, Any]
Block = Callable[[int], nn.Module]


class Routed(NamedTuple):
    """A network with experts: how it is built around a block, and the block, but for its sizes.

    build(block, kind, budget, its options) -> network; mixture: D -> block.
    """

    build: Callable[Concatenate[Block, Kind, Budget, ...], Forecaster]
    mixture: Callable[..., MoE]


def build(name: str, budget: Budget, kind: Kind, options: Mapping[str, Any]) -> Forecaster:
    """Return an untrained network.

    Args:
        name: as below `networks` of the budget.
        budget: of one set, see configs/timeseries/compare.yaml.
        kind: its mixture as it is, or a control in its place; of a network without one, "routed".
        options: arguments of the network, beside those of the budget.
    """
    told = budget["networks"][name]
    options = {**told.get("options", {}), **options}
    if name in ROUTED:
        block = Control(kind, partial(ROUTED[name].mixture, **told["mixture"]))
        return ROUTED[name].build(block, kind, budget, **options)
    context, horizons = budget["context"], budget["horizons"]
    if name == "gaussian_ridge":
        return GaussianRidge(context, max(horizons))
    peers: dict[str, Callable[..., Forecaster]] = {"dlinear": DLinear, "patchtst": patchtst, "nhits": nhits}
    return peers[name](context, max(horizons), horizons=horizons, **options)


def unlike_experts(dim: int, num_experts: int, hidden: int) -> MoE:
    """Two linear experts, one that copies and one that gives nothing; the others are perceptrons."""
    linear = experts.ExpertList(nn.Linear(dim, dim) for _ in range(2))
    perceptrons = experts.MLP(dim, num_experts - 4, hidden, "swiglu")
    block = experts.ExpertGroups([perceptrons, linear, experts.Copy(1), experts.Zero(1)])
    return MoE(routers.TopK(dim, num_experts), block)


def _ridge_moe(block: Block, kind: Kind, budget: Budget, **options: Any) -> Forecaster:
    horizons = budget["horizons"]
    return RidgeMoE(budget["context"], max(horizons), horizons, feed_forward=block, **options)


def _time_moe(block: Block, kind: Kind, budget: Budget, **options: Any) -> Forecaster:
    return TimeMoE(feed_forward=block, horizons=budget["horizons"], **options)


def _smetimes(block: Block, kind: Kind, budget: Budget, **options: Any) -> Forecaster:
    return SMETimes(feed_forward=block, horizons=budget["horizons"], **options)


def _moirai_moe(block: Block, kind: Kind, budget: Budget, patches: int, **options: Any) -> MoiraiMoE:
    """With quantiles: a forecast of 720 steps by sampling takes far longer."""
    head = partial(QuantileHead, patches=patches)
    return _moirai_of(block, kind, head=head, **options)


def _moirai_mixture(block: Block, kind: Kind, budget: Budget, patches: int, **options: Any) -> Forecaster:
    """With the paper's head, which forecasts one patch at a time."""
    return _moirai_of(block, kind, head=partial(MixtureHead, samples=SAMPLES), **options)


def _moirai_of(block: Block, kind: Kind, **options: Any) -> MoiraiMoE:
    # centroids are not trained, so that freezing them changes nothing
    return MoiraiMoE(feed_forward=block, placed=kind != "random_router", **options)


def _moirai_ridge(
    block: Block, kind: Kind, budget: Budget, share: float | None = None, **options: Any
) -> Forecaster:
    network, horizons = _moirai_moe(block, kind, budget, **options), budget["horizons"]
    return DistributionBesideRidge(network, budget["context"], max(horizons), horizons, share)


SAMPLES = 20
"""Paths that the mixture head draws: a fifth of its own number, as validation has thousands of windows."""
CENTROIDS = partial(MixtureFFN, router=partial(routers.TopK, k=2, renormalize=True, gate=gates.Centroid))
LEARNED = partial(MixtureFFN, router=partial(routers.TopK, k=2, renormalize=True))
ROUTED = {
    "ridge_moe": Routed(_ridge_moe, MixtureFFN),
    "linear_experts": Routed(_ridge_moe, partial(LinearMixture, router=routers.TopK)),
    "band_experts": Routed(_ridge_moe, partial(MixtureFFN, router=routers.Lookup)),
    "unlike_experts": Routed(_ridge_moe, unlike_experts),
    "time_moe": Routed(_time_moe, MixtureFFN),
    "moirai_moe": Routed(_moirai_moe, CENTROIDS),
    "moirai_mixture": Routed(_moirai_mixture, CENTROIDS),
    "moirai_joint": Routed(_moirai_moe, CENTROIDS),
    "moirai_learned": Routed(_moirai_moe, LEARNED),
    "moirai_shared": Routed(_moirai_moe, partial(MixtureFFN, router=partial(routers.TopK, k=1))),
    "moirai_ridge": Routed(_moirai_ridge, CENTROIDS),
    "smetimes": Routed(_smetimes, LinearMixture),
}
"""The networks that have experts, by the names that budgets have for them."""
