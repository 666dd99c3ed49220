"""What keeps experts evenly used: losses as functions of routings, and controllers."""

from collegium.balance.bias import BiasBalance
from collegium.balance.counts import GlobalCounts
from collegium.balance.losses import entropy, importance_cv, load_balance, load_cv, z_loss

__all__ = ["BiasBalance", "GlobalCounts", "entropy", "importance_cv", "load_balance", "load_cv", "z_loss"]
