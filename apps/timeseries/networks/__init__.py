"""The networks of this app, a file each."""

from apps.timeseries.networks.dlinear import DLinear
from apps.timeseries.networks.gaussian_ridge import GaussianRidge
from apps.timeseries.networks.time_moe import TimeMoE

__all__ = ["DLinear", "GaussianRidge", "TimeMoE"]
