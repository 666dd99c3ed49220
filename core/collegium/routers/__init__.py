"""Who goes where: every router is a module ``tokens (T, D), context, previous -> Routing``."""

from collegium.routers.base import Gate, Router
from collegium.routers.dense import AllExperts
from collegium.routers.expert_choice import ExpertChoice
from collegium.routers.hashing import Hash
from collegium.routers.random import Random
from collegium.routers.topk import Switch, TopK
from collegium.routers.topp import TopP

__all__ = ["AllExperts", "ExpertChoice", "Gate", "Hash", "Random", "Router", "Switch", "TopK", "TopP"]
