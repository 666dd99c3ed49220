"""The face that river's users know: learn_one, predict_one, predict_proba_one."""

from collections.abc import Mapping
from typing import Any

from river.base import Classifier

from apps.drift.learner import Learner
from apps.drift.schema import as_text, is_missing

NETWORK = {"class_path": "apps.drift.model.StreamMoE", "init_args": {}}


class DriftMoE(Classifier):
    """A mixture of unlike experts that adapts to drift, as a classifier of river.

    By default each row is learned when its label comes. With a larger ``chunk`` some rows are learned
    together, which is faster, and the last ones, fewer than that, are not known yet to a prediction.

    Args:
        network: {class_path: ..., init_args: ...} of a `StreamModel`; `StreamMoE` by default.
        chunk: rows that are learned together.
        classes: how many labels there may be.
        learning_rate: of what learns by gradient.
        seed: of the first weights, and of all that is drawn.

    >>> from river import datasets
    >>> model = DriftMoE()
    >>> for x, y in datasets.Phishing().take(200):
    ...     _ = model.predict_one(x)
    ...     model.learn_one(x, y)
    >>> sorted(model.predict_proba_one(x))
    [False, True]
    """

    def __init__(
        self,
        network: Mapping[str, Any] | None = None,
        chunk: int = 1,
        classes: int = 32,
        learning_rate: float = 3e-3,
        seed: int = 0,
    ) -> None:
        self.network, self.chunk, self.classes = network, chunk, classes
        self.learning_rate, self.seed = learning_rate, seed
        self.learner = Learner(network or NETWORK, None, classes, learning_rate, seed)
        self._labels: dict[str, Any] = {}
        self._waiting: list[tuple[dict[str, Any], Any]] = []

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[Any, Any], y: Any, **kwargs: Any) -> None:
        """Take a row and its label in; a row without a label teaches nothing."""
        if is_missing(y):
            return
        y = next((known for known in self._labels.values() if known == y), y)  # 1 and True are one label
        self.learner.labels.encode([y])
        self._labels.setdefault(as_text(y), y)
        self._waiting.append((_row(x), y))
        if len(self._waiting) == self.chunk:
            rows, labels = zip(*self._waiting, strict=True)
            self.learner.learn(rows, labels)
            self._waiting.clear()

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[Any, float]:
        """Probabilities of the labels so far; all alike before the first rows were learned."""
        if self.learner.schema is None:
            return {label: 1 / len(self._labels) for label in self._labels.values()}
        probs = self.learner.say([_row(x)]).probs[0].double()
        labels = [self._labels[name] for name in self.learner.labels.names]
        return dict(zip(labels, (probs / probs.sum()).tolist(), strict=True))


def _row(x: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): cell for name, cell in x.items()}
