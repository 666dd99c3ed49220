"""The arms of the comparison: the routed network, its controls, and what one would use otherwise."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from collegium import inspection
from lightning import seed_everything
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from apps.common.compare import Arm, Cost, Fitted, Outcome, Trial
from apps.common.compare.training import fit_best
from apps.common.controls import KINDS, Control, Kind
from apps.common.template.data import Data
from apps.common.template.metrics import hits, log_loss
from apps.common.template.model import Classifier
from apps.common.template.simulate import simulate
from apps.common.template.task import Task


def arms(budget: dict[str, Any]) -> dict[str, Arm]:
    """Every arm by name. The budget gives `epochs`, and `trials`, the settings of each arm to choose from."""
    epochs, trials = budget["epochs"], budget["trials"]
    networks: dict[str, Arm] = {kind: Network(kind, epochs, trials[kind]) for kind in KINDS}
    return networks | {"logistic_regression": Logistic(trials["logistic_regression"])}


def data_sha256(name: str) -> str:
    """Hash of the generated table, the only data set here."""
    return hashlib.sha256(simulate(Data().rows).to_csv().encode()).hexdigest()


class Network(Arm):
    """A network with one kind of feed-forward block; the epoch of least validation loss is kept."""

    def __init__(self, kind: Kind, epochs: int, trials: Sequence[Trial]) -> None:
        self.kind, self.epochs, self.trials = kind, epochs, trials
        self.settings = {"kind": kind}

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Train with one learning rate."""
        seed_everything(seed, verbose=False)
        rows = _rows()
        task = Task(Classifier(feed_forward=Control(self.kind)), learning_rate=trial["learning_rate"])
        fit_best(task, rows, self.epochs, seed)
        return FittedNetwork(task, rows)


class FittedNetwork(Fitted):
    """A trained network; judged by its log loss on validation rows."""

    def __init__(self, task: Task, rows: Data) -> None:
        self.network, self.rows = task.network.eval(), rows
        x, label = rows.part("validation")
        self.validation = float(log_loss(self._logits(x), label).mean())

    def test(self) -> Outcome:
        """Open the test rows."""
        x, label = self.rows.part("test")
        active, total = inspection.parameters(self.network)
        return outcome(self._logits(x), label, Cost(active, total, inspection.flops(self.network, x[:1])))

    @torch.no_grad()
    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


class Logistic(Arm):
    """Logistic regression."""

    seeded = False

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = trials

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Fit in closed loop by scikit-learn."""
        rows = _rows()
        x, label = rows.part("train")
        return FittedLogistic(LogisticRegression(C=trial["C"], max_iter=1000).fit(x, label), rows)


class FittedLogistic(Fitted):
    """A fitted regression."""

    def __init__(self, model: LogisticRegression, rows: Data) -> None:
        self.model, self.rows = model, rows
        x, label = rows.part("validation")
        self.validation = float(log_loss(self._logits(x), label).mean())

    def test(self) -> Outcome:
        """Open the test rows."""
        x, label = self.rows.part("test")
        size = self.model.coef_.size + self.model.intercept_.size
        return outcome(self._logits(x), label, Cost(size, size, 2 * self.model.coef_.size))

    def _logits(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.model.predict_log_proba(x))


def outcome(logits: Tensor, label: Tensor, cost: Cost) -> Outcome:
    """Accuracy and log loss of test rows, each row being one unit."""
    units: dict[tuple[str, str], np.ndarray] = {
        ("all", "accuracy"): hits(logits, label).double().numpy(),
        ("all", "log_loss"): log_loss(logits, label).double().numpy(),
    }
    values = [("all", name, float(unit.mean()), name == "accuracy") for (_, name), unit in units.items()]
    return Outcome(values, units, cost)


def _rows() -> Data:
    rows = Data()
    rows.setup()
    return rows
