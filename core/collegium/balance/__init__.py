"""What keeps experts evenly used: losses as functions of routings, and controllers."""

from collegium.balance.bias import BiasBalance
from collegium.balance.consistency import consistency
from collegium.balance.counts import GlobalCounts
from collegium.balance.global_batch import GlobalLoadBalance
from collegium.balance.information import concentration, information
from collegium.balance.losses import entropy, importance_cv, load_balance, load_cv, z_loss
from collegium.balance.selectors import selector_entropy
from collegium.balance.unequal import heterogeneous, latency_cv

__all__ = [
    "BiasBalance",
    "GlobalCounts",
    "GlobalLoadBalance",
    "concentration",
    "consistency",
    "entropy",
    "heterogeneous",
    "importance_cv",
    "information",
    "latency_cv",
    "load_balance",
    "load_cv",
    "selector_entropy",
    "z_loss",
]
