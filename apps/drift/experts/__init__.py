"""What may be an expert on a stream: each maps rows (A, D) to probabilities of the classes (A, C)."""

from apps.drift.experts.bayes import Bayes
from apps.drift.experts.neighbours import Neighbours
from apps.drift.experts.perceptrons import Perceptrons
from apps.drift.experts.recent import Recent
from apps.drift.experts.trees import Trees

__all__ = ["Bayes", "Neighbours", "Perceptrons", "Recent", "Trees"]
