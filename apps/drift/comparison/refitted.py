"""What the field would pick: learners of scikit-learn and fairlearn, fitted again as a stream goes on."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from apps.common.compare import Cost
from apps.drift.comparison.fair import Prequential, Table
from apps.drift.data import Data

STEPS = 1000
"""Of the solver of a logistic regression, at most."""
RATE, EPOCHS = 1e-2, 50
"""Of a perceptron. Early stopping holds rows out, and of the first blocks too few to tell by."""


class Peer(ABC):
    """A learner of a table, whose features are in their deviations."""

    @abstractmethod
    def fit(self, z: np.ndarray, label: np.ndarray, group: np.ndarray) -> None:
        """Learn rows (N, D), labels (N,) and groups (N,) from nothing."""

    @abstractmethod
    def predict(self, z: np.ndarray) -> Table:
        """Of rows (n, D): predicted (n,), 0 or 1, and perhaps distance (n,)."""

    @abstractmethod
    def parameters(self) -> int:
        """How many numbers it has learned."""


class Logistic(Peer):
    """scikit-learn's logistic regression.

    Args:
        C: the inverse of its penalty of weights.
    """

    def __init__(self, C: float = 1.0) -> None:
        self.model = LogisticRegression(C=C, max_iter=STEPS)

    def fit(self, z: np.ndarray, label: np.ndarray, group: np.ndarray) -> None:
        """By the log-loss."""
        self.model.fit(z, label)

    def predict(self, z: np.ndarray) -> Table:
        """With the distance from its boundary."""
        logit = self.model.decision_function(z)
        distance = np.maximum(-logit, 0) / np.linalg.norm(self.model.coef_)
        return {"predicted": (logit > 0).astype(int), "distance": distance}

    def parameters(self) -> int:
        """Weights and a bias."""
        return int(self.model.coef_.size) + 1


class Perceptron(Peer):
    """scikit-learn's perceptron with one hidden layer.

    Args:
        hidden: width.
        alpha: penalty of weights.
        seed: of weights and draws.
    """

    def __init__(self, hidden: int, alpha: float, seed: int) -> None:
        options = {"alpha": alpha, "learning_rate_init": RATE, "max_iter": EPOCHS, "random_state": seed}
        self.model = MLPClassifier((hidden,), **options)

    def fit(self, z: np.ndarray, label: np.ndarray, group: np.ndarray) -> None:
        """By the log-loss."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is told how long to go on
            self.model.fit(z, label)

    def predict(self, z: np.ndarray) -> Table:
        """The likelier label."""
        return {"predicted": self.model.predict(z)}

    def parameters(self) -> int:
        """Weights and biases."""
        return sum(part.size for part in (*self.model.coefs_, *self.model.intercepts_))


class Reductions(Peer):
    """fairlearn's exponentiated gradient over logistic regressions, a random one of which decides each row.

    Source: Agarwal et al. 2018, "A Reductions Approach to Fair Classification".

    Args:
        measure: "parity" or "odds".
        bound: by how much the outcomes of a group may differ from those of all.
        seed: of the draws.
    """

    def __init__(self, measure: str, bound: float, seed: int, C: float = 1.0) -> None:
        from fairlearn.reductions import DemographicParity, EqualizedOdds, ExponentiatedGradient  # a peer

        constraint = {"parity": DemographicParity, "odds": EqualizedOdds}[measure](difference_bound=bound)
        self.model = ExponentiatedGradient(LogisticRegression(C=C, max_iter=STEPS), constraint)
        self.random = np.random.RandomState(seed)

    def fit(self, z: np.ndarray, label: np.ndarray, group: np.ndarray) -> None:
        """By the error under the constraint."""
        self.model.fit(z, label, sensitive_features=group)

    def predict(self, z: np.ndarray) -> Table:
        """As drawn."""
        return {"predicted": np.asarray(self.model.predict(z, random_state=self.random)).astype(int)}

    def parameters(self) -> int:
        """Of all regressions that may be drawn."""
        used = self.model.predictors_[self.model.weights_ > 0]
        return sum(int(one.coef_.size) + 1 for one in used)


class Refitted(Prequential):
    """Fits a learner anew after every block of rows; 0 is said until both labels came.

    Args:
        data: the stream.
        make: -> the learner.
        block: rows.
        recent: the last rows, to which it is fitted; all so far by default.
    """

    def __init__(self, data: Data, make: Callable[[], Peer], block: int, recent: int | None = None) -> None:
        super().__init__(data)
        self.x, self.label, self.group = data.x.double().numpy(), data.y.numpy(), data.group.numpy()
        self.make, self.block, self.recent = make, block, recent
        self.scale = StandardScaler()
        self.peer: Peer | None = None

    def step(self, end: int) -> Table:
        """The rest of a block."""
        stop = min(end, (self.at // self.block + 1) * self.block)
        if self.peer is None:
            said: Table = {"predicted": np.zeros(stop - self.at, int)}
        else:
            said = self.peer.predict(self.scale.transform(self.x[self.at : stop]))
        rows = slice(0 if self.recent is None else max(0, stop - self.recent), stop)
        if stop % self.block == 0 and len(np.unique(self.label[rows])) == 2:
            self.peer = self.make()
            self.peer.fit(self.scale.fit_transform(self.x[rows]), self.label[rows], self.group[rows])
        return said

    def cost(self) -> Cost:
        """Its parameters."""
        size = 0 if self.peer is None else self.peer.parameters()
        return Cost(size, size)
