"""What happened: load, specialisation, cost."""

from collegium.inspection.cost import flops, parameters
from collegium.inspection.usage import entropy, load, max_violation, mutual_information

__all__ = ["entropy", "flops", "load", "max_violation", "mutual_information", "parameters"]
