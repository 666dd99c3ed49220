"""What is computed: a block of experts maps rows sorted by expert to rows."""

from collegium.experts.base import Experts
from collegium.experts.feature_gate import FeatureGate
from collegium.experts.lists import ExpertGroups, ExpertList
from collegium.experts.mlp import MLP
from collegium.experts.norm_act import NormAct
from collegium.experts.online import OnlineExperts, teach
from collegium.experts.rows import RowExperts
from collegium.experts.shared import Shared
from collegium.experts.trivial import Constant, Copy, Zero

__all__ = [
    "MLP",
    "Constant",
    "Copy",
    "ExpertGroups",
    "ExpertList",
    "Experts",
    "FeatureGate",
    "NormAct",
    "OnlineExperts",
    "RowExperts",
    "Shared",
    "Zero",
    "teach",
]
