"""Metrics of streams: every prediction is made before its label is learned, and all of them count.

Source: Bifet et al. 2015, "Efficient Online Evaluation of Big Data Stream Classifiers", section 3.

Shapes: N rows; labels and predictions are whole numbers from 0.
"""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import cohen_kappa_score

Rule = Callable[[np.ndarray], np.ndarray]
"""Labels (N,) to predictions (N,), each by the labels before it."""


def right(label: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Which predictions (N,) are right, as 0.0 and 1.0."""
    hits: np.ndarray = (label == predicted).astype(float)
    return hits


def majority(label: np.ndarray) -> np.ndarray:
    """What a rule would say that knows the most frequent label so far; of the first row, 0.

    Of equals it says the smallest.
    """
    if len(label) == 0:
        return label.copy()
    seen = (label[:, None] == np.arange(label.max() + 1)).cumsum(0)
    return np.concatenate([[0], seen[:-1].argmax(1)])


def no_change(label: np.ndarray) -> np.ndarray:
    """What a rule would say that repeats the last label; of the first row, 0."""
    return np.concatenate([np.zeros(min(1, len(label)), label.dtype), label[:-1]])


def over(accuracy: float, floor: float) -> float:
    """(accuracy - floor) / (1 - floor): 0 where no better than the floor, 1 where perfect; NaN over 1.

    With `majority` as floor it is kappa-M, with `no_change` kappa-temporal.
    """
    return (accuracy - floor) / (1 - floor) if floor < 1 else float("nan")


def kappa(label: np.ndarray, predicted: np.ndarray) -> float:
    """Cohen's kappa: agreement beyond that of two who say each class as often; NaN for a single class."""
    if len(np.unique(np.concatenate([label, predicted]))) < 2:
        return float("nan")
    return float(cohen_kappa_score(label, predicted))


def windowed(hits: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the last `window` hits at every row from there on: (rows, means)."""
    total = np.concatenate([[0.0], np.cumsum(hits)])
    rows = np.arange(min(window, len(hits)), len(hits) + 1)
    return rows, (total[rows] - total[rows - min(window, len(hits))]) / max(1, min(window, len(hits)))


def recovery(
    hits: np.ndarray, drifts: Sequence[int], width: int = 0, window: int = 500, short: float = 0.01
) -> list[float]:
    """How many rows each drift cost: until accuracy is back, NaN where it is not before the next drift.

    Accuracy over the last ``window`` rows, none from before the drift, is back when it lies no more than
    ``short`` below that of the ``2 window`` rows before concepts began to mix.

    Args:
        hits: (N,) whether each prediction was right.
        drifts: rows at which the concept changes, ascending.
        width: rows before these, and behind, in which the old concept and the new one mix.
        window, short: as above.
    """
    ends = [*drifts, len(hits)][1:]
    costs = []
    for drift, end in zip(drifts, ends, strict=True):
        begin = max(0, drift - width)
        before, after = hits[max(0, begin - 2 * window) : begin], hits[drift:end]
        rows, means = windowed(after, window)
        back = means >= before.mean() - short if len(before) and len(after) >= window else np.zeros(0, bool)
        costs.append(float(rows[back.argmax()]) if back.any() else float("nan"))
    return costs


def measure(label: np.ndarray, predicted: np.ndarray, first: int = 0) -> dict[str, float]:
    """Accuracy, kappa, kappa-M and kappa-temporal from a row on; floors know all that comes before it."""
    accuracy = float(right(label, predicted)[first:].mean())
    floors = {name: float(right(label, rule(label))[first:].mean()) for name, rule in FLOORS.items()}
    return {
        "accuracy": accuracy,
        "kappa": kappa(label[first:], predicted[first:]),
        "kappa_m": over(accuracy, floors["majority"]),
        "kappa_t": over(accuracy, floors["no_change"]),
    }


FLOORS: dict[str, Rule] = {"majority": majority, "no_change": no_change}
"""Rules that every table shows: what does not beat them has learned nothing."""
