"""Routed against its controls and peers: cells, cache, intervals, result files, and pages made from these."""

from apps.common.compare.arms import Arm, Cost, Fitted, Outcome, Trial, Value
from apps.common.compare.command import compare
from apps.common.compare.refresh import refresh_pages

__all__ = ["Arm", "Cost", "Fitted", "Outcome", "Trial", "Value", "compare", "refresh_pages"]
