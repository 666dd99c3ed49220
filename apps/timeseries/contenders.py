"""The networks of the comparison, each built from what its budget says of it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from collegium import MoE, gates, routers
from torch import nn

from apps.common.controls import Control, Kind, MixtureFFN
from apps.timeseries.model import Forecaster
from apps.timeseries.networks import DLinear, MoiraiMoE, QuantileHead, RidgeMoE, SMETimes, TimeMoE
from apps.timeseries.networks.peers import nhits, patchtst
from apps.timeseries.networks.smetimes import LinearMixture

RANDOM = partial(routers.TopK, k=2, renormalize=True)
CENTROIDS = partial(RANDOM, gate=gates.Centroid)

MIXTURES: dict[str, Callable[..., MoE]] = {
    "ridge_moe": MixtureFFN,
    "time_moe": MixtureFFN,
    "moirai_moe": partial(MixtureFFN, router=CENTROIDS),
    "smetimes": LinearMixture,
}
"""The routed block of each network that has one, D -> block, but for its sizes."""


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
        return DLinear(context, longest)
    if name in ("patchtst", "nhits"):
        peer: Callable[..., Forecaster] = patchtst if name == "patchtst" else nhits
        return peer(context, longest, **options)
    mixture = MIXTURES[name]
    if name == "moirai_moe" and kind == "random_router":  # its own gate has nothing to freeze
        mixture = partial(mixture, router=RANDOM)
    block: Callable[[int], nn.Module] = Control(kind, partial(mixture, **told["mixture"]))
    if name == "ridge_moe":
        return RidgeMoE(context, longest, horizons, feed_forward=block, **options)
    if name == "moirai_moe":
        head = partial(QuantileHead, patches=options.pop("patches"))
        return MoiraiMoE(feed_forward=block, head=head, **options)
    if name == "time_moe":
        return TimeMoE(feed_forward=block, horizons=horizons, **options)
    return SMETimes(feed_forward=block, horizons=horizons, **options)
