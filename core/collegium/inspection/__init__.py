"""What happened: load, specialisation, company, drift, locality, cost.

Tables and figures are float64 on the CPU, as not every device knows that type.
"""

from collegium.inspection.bootstrap import Specialisation, specialisation
from collegium.inspection.checkpoints import Drift, drift
from collegium.inspection.company import co_selection
from collegium.inspection.cost import flops, parameters
from collegium.inspection.joint import expert_by_label, served
from collegium.inspection.locality import segment_cache_hit_rate, segment_routing_best_performance
from collegium.inspection.usage import dead_experts, entropy, load, max_violation, mutual_information

__all__ = [
    "Drift",
    "Specialisation",
    "co_selection",
    "dead_experts",
    "drift",
    "entropy",
    "expert_by_label",
    "flops",
    "load",
    "max_violation",
    "mutual_information",
    "parameters",
    "segment_cache_hit_rate",
    "segment_routing_best_performance",
    "served",
    "specialisation",
]
