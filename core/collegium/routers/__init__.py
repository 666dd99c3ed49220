"""Who goes where: every router is a module ``tokens (T, D), context, previous -> Routing``."""

from collegium.routers.annealed import DenseToSparse
from collegium.routers.balanced import Base, Sinkhorn
from collegium.routers.base import GatedRouter, RouteError, Router
from collegium.routers.comet import Comet
from collegium.routers.dense import AllExperts
from collegium.routers.expert_choice import ExpertChoice
from collegium.routers.fixed import FixedPlusRouted
from collegium.routers.groups import EqualPerGroup, GroupLimited
from collegium.routers.hashing import Hash
from collegium.routers.lookup import Lookup
from collegium.routers.multigate import MultiGate
from collegium.routers.product_key import ProductKey
from collegium.routers.random import Random, RandomPartition
from collegium.routers.recurrent import Recurrent, share_cells
from collegium.routers.smooth import DSelectK
from collegium.routers.soft import SoftSlots
from collegium.routers.topk import NoisyTopK, Switch, TopK
from collegium.routers.topp import TopP
from collegium.routers.whole import WholeSegment

__all__ = [
    "AllExperts",
    "Base",
    "Comet",
    "DSelectK",
    "DenseToSparse",
    "EqualPerGroup",
    "ExpertChoice",
    "FixedPlusRouted",
    "GatedRouter",
    "GroupLimited",
    "Hash",
    "Lookup",
    "MultiGate",
    "NoisyTopK",
    "ProductKey",
    "Random",
    "RandomPartition",
    "Recurrent",
    "RouteError",
    "Router",
    "Sinkhorn",
    "SoftSlots",
    "Switch",
    "TopK",
    "TopP",
    "WholeSegment",
    "share_cells",
]
