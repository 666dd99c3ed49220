"""The networks of this app, a file each."""

from apps.timeseries.networks.beside_ridge import BesideRidge, DistributionBesideRidge
from apps.timeseries.networks.dlinear import DLinear
from apps.timeseries.networks.gaussian_ridge import GaussianRidge
from apps.timeseries.networks.heads import QuantileHead
from apps.timeseries.networks.mixture_head import MixtureHead
from apps.timeseries.networks.moirai_moe import MoiraiMoE
from apps.timeseries.networks.ridge_moe import RidgeMoE
from apps.timeseries.networks.smetimes import SMETimes
from apps.timeseries.networks.time_moe import TimeMoE

__all__ = [
    "BesideRidge",
    "DLinear",
    "DistributionBesideRidge",
    "GaussianRidge",
    "MixtureHead",
    "MoiraiMoE",
    "QuantileHead",
    "RidgeMoE",
    "SMETimes",
    "TimeMoE",
]
