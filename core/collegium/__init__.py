"""Mixture-of-experts blocks for PyTorch: routers decide, experts compute, a layer joins them.

>>> import torch, collegium as moe
>>> layer = moe.MoE(moe.routers.TopK(16, 4, k=2), moe.experts.MLP(16, 4, hidden=32))
>>> layer(torch.randn(2, 5, 16)).shape
torch.Size([2, 5, 16])
"""

from collegium import balance, evidence, experts, gates, inspection, routers
from collegium.checks import check_causal, check_needs
from collegium.context import Context
from collegium.layer import MoE, record
from collegium.routing import Routing

__version__ = "0.1.0"

__all__ = [
    "Context",
    "MoE",
    "Routing",
    "balance",
    "check_causal",
    "check_needs",
    "evidence",
    "experts",
    "gates",
    "inspection",
    "record",
    "routers",
]
