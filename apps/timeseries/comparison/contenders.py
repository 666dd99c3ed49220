"""The networks of the comparison, each built from what its budget says of it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from collegium import MoE, experts, gates, routers
from torch import nn

from apps.common.controls import Control, Kind, MixtureFFN
from apps.timeseries.model import Forecaster
from apps.timeseries.networks import (
    BesideRidge,
    DLinear,
    MoiraiMoE,
    QuantileHead,
    RidgeMoE,
    SMETimes,
    TimeMoE,
)
from apps.timeseries.networks.peers import nhits, patchtst
from apps.timeseries.networks.smetimes import LinearMixture

CENTROIDS = partial(routers.TopK, k=2, renormalize=True, gate=gates.Centroid)


def unlike_experts(dim: int, num_experts: int, hidden: int) -> MoE:
    """Two linear experts, one that copies and one that gives nothing; the others are perceptrons."""
    linear = experts.ExpertList(nn.Linear(dim, dim) for _ in range(2))
    perceptrons = experts.MLP(dim, num_experts - 4, hidden, "swiglu")
    block = experts.ExpertGroups([perceptrons, linear, experts.Copy(1), experts.Zero(1)])
    return MoE(routers.TopK(dim, num_experts), block)


MIXTURES: dict[str, Callable[..., MoE]] = {
    "ridge_moe": MixtureFFN,
    "linear_experts": partial(LinearMixture, router=routers.TopK),
    "band_experts": partial(MixtureFFN, router=routers.Lookup),
    "unlike_experts": unlike_experts,
    "time_moe": MixtureFFN,
    "moirai_moe": partial(MixtureFFN, router=CENTROIDS),
    "moirai_learned": partial(MixtureFFN, router=partial(routers.TopK, k=2, renormalize=True)),
    "moirai_shared": partial(MixtureFFN, router=partial(routers.TopK, k=1)),
    "moirai_ridge": partial(MixtureFFN, router=CENTROIDS),
    "smetimes": LinearMixture,
}
"""The routed block of each network that has one, D -> block, but for its sizes.

The first four are of RidgeMoE: as it is, with linear experts, with an expert for each band, with unlike
ones. Four are of Moirai-MoE: as it is, with a learned gate, with a shared expert, beside a ridge.
"""
RIDGES, MOIRAI = tuple(MIXTURES)[:4], tuple(name for name in MIXTURES if name.startswith("moirai"))


def build(name: str, budget: Mapping[str, Any], kind: Kind, options: Mapping[str, Any]) -> Forecaster:
    """Return an untrained network.

    Args:
        name: as below `networks` of the budget.
        budget: of one set, see configs/timeseries/compare.yaml.
        kind: its mixture as it is, or a control in its place; of a network without one, "routed".
        options: arguments of the network, beside those of the budget.
    """
    context, horizons, longest = budget["context"], budget["horizons"], max(budget["horizons"])
    told = budget["networks"][name]
    options = {**told.get("options", {}), **options}
    if name == "dlinear":
        return DLinear(context, longest, horizons=horizons)
    if name in ("patchtst", "nhits"):
        peer: Callable[..., Forecaster] = patchtst if name == "patchtst" else nhits
        return peer(context, longest, horizons=horizons, **options)
    block: Callable[[int], nn.Module] = Control(kind, partial(MIXTURES[name], **told["mixture"]))
    if name in RIDGES:
        return RidgeMoE(context, longest, horizons, feed_forward=block, **options)
    if name in MOIRAI:
        head, share = partial(QuantileHead, patches=options.pop("patches")), options.pop("share", None)
        placed = kind != "random_router"  # centroids are not trained, so that freezing them changes nothing
        network = MoiraiMoE(feed_forward=block, head=head, placed=placed, **options)
        return BesideRidge(network, context, longest, horizons, share) if name == "moirai_ridge" else network
    if name == "time_moe":
        return TimeMoE(feed_forward=block, horizons=horizons, **options)
    return SMETimes(feed_forward=block, horizons=horizons, **options)
