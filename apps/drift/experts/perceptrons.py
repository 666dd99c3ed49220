"""Perceptrons that learn by gradient as the stream goes on."""

from collections.abc import Sequence

from collegium.experts import ExpertList
from torch import Tensor, nn

from apps.drift.experts.scale import RunningScale


class Perceptrons(ExpertList):
    """One hidden layer each; (A, D) to probabilities (A, C).

    Args:
        features: D.
        classes: C.
        hidden: width of the layer of each expert; 0 makes a softmax regression.
    """

    def __init__(self, features: int, classes: int, hidden: Sequence[int] = (64, 0)) -> None:
        super().__init__(_Perceptron(features, classes, width) for width in hidden)
        self.names = [f"perceptron {width}" if width else "softmax" for width in hidden]


class _Perceptron(nn.Module):
    def __init__(self, features: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.scale = RunningScale(features)
        self.layers: nn.Module
        if hidden:
            layers = nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes)
            self.layers = nn.Sequential(*layers)
        else:
            self.layers = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        probs: Tensor = self.layers(self.scale(x)).softmax(-1)
        return probs
