"""Checks that every router and every block of experts passes: run them on your own.

>>> from collegium import experts, routers
>>> check_router(routers.TopK)
>>> check_experts(lambda dim, num_experts: experts.MLP(dim, num_experts, hidden=8))

They take a factory ``(dim, num_experts) -> module``, use PyTorch alone, and say in an AssertionError what is
broken.
"""

from collegium.testing.experts import check_experts
from collegium.testing.inputs import exported, random_context
from collegium.testing.routers import check_router
from collegium.testing.routing import check_routing

__all__ = ["check_experts", "check_router", "check_routing", "exported", "random_context"]
