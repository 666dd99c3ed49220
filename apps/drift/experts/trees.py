"""Hoeffding trees of river."""

import numpy as np
import torch
from river.drift import ADWIN
from river.tree import HoeffdingTreeClassifier
from scipy import stats
from torch import Tensor

from apps.common.loaders import derive_seed
from apps.drift.experts.alone import Alone
from apps.drift.experts.unpickle import from_bytes, to_bytes
from apps.drift.memory import drawn_seed

Planted = tuple[list[int], HoeffdingTreeClassifier]
"""The features that a tree sees, and the tree."""

WARNING, DRIFT = 0.01, 0.001
"""Confidence of the two detectors of a tree, as in river's adaptive forests."""


class Trees(Alone):
    """Hoeffding trees, each shown every row, or diverse in rows and features and reseeded at a drift.

    Source: Domingos and Hulten 2000, "Mining High-Speed Data Streams"; resampling of rows after Bifet et al.
    2010, "Leveraging Bagging"; of features and rows together, and trees that are grown in the background
    from a warning on, after Gomes et al. 2019, "Streaming Random Patches".

    Args:
        features: D.
        classes: C.
        num_trees: E.
        subspace: share of the features that a tree sees, drawn when it is planted.
        rate: each row counts Poisson(rate) times for a tree; 0 counts it once.
        detect: watch the errors of each tree with ADWIN: at a warning plant another in the background, at a
            drift put it in the tree's place.
        grace_period: rows of a leaf between two tries to split it.
        confidence: of a split; lower is surer.
        seed: of the draws; by default one that torch's generator gives.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        num_trees: int = 12,
        subspace: float = 1.0,
        rate: float = 0.0,
        detect: bool = False,
        grace_period: int = 50,
        confidence: float = 1e-7,
        seed: int | None = None,
    ) -> None:
        super().__init__(num_trees, classes)
        self.features, self.subspace, self.rate, self.detect = features, subspace, rate, detect
        self.grace_period, self.confidence = grace_period, confidence
        self.seed = drawn_seed() if seed is None else seed
        self.names = [f"tree {number + 1}" for number in range(num_trees)]
        self.planted = 0
        self.shown = [0] * num_trees
        self.trees = [self._plant() for _ in range(num_trees)]
        self.background: list[Planted | None] = [None] * num_trees
        self.detectors = [_detectors() for _ in range(num_trees)]

    def answer(self, expert: int, x: Tensor) -> Tensor:
        """Probabilities of the tree."""
        return self._table([_ask(self.trees[expert], row) for row in x.tolist()], x)

    def lesson(self, expert: int, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Ask, watch and teach row by row."""
        said = []
        for row, label, count in zip(x.tolist(), y.tolist(), self._counts(expert, weight), strict=True):
            said.append(_ask(self.trees[expert], row))
            if self.detect:
                self._watch(expert, max(said[-1], key=said[-1].__getitem__, default=-1) != label)
            for planted in (self.trees[expert], self.background[expert]):
                if planted is not None and count > 0:
                    columns, tree = planted
                    tree.learn_one({column: row[column] for column in columns}, label, w=count)
        return self._table(said, x)

    def get_extra_state(self) -> Tensor:
        """Everything that the trees know, as bytes."""
        kept = (self.seed, self.planted, self.shown, self.trees, self.background, self.detectors)
        return to_bytes(kept)

    def set_extra_state(self, state: Tensor) -> None:
        """Take it up. Raises `UserError` where it is no such state."""
        kept = from_bytes(state)
        self.seed, self.planted, self.shown, self.trees, self.background, self.detectors = kept

    def _plant(self) -> Planted:
        generator = np.random.default_rng(derive_seed(self.seed, self.planted))
        self.planted += 1
        size = max(1, round(self.subspace * self.features))
        columns = sorted(generator.choice(self.features, size, replace=False).tolist())
        return columns, HoeffdingTreeClassifier(grace_period=self.grace_period, delta=self.confidence)

    def _counts(self, expert: int, weight: Tensor) -> list[float]:
        """How often each row counts for an expert; a function of the seed and of the row's number alone."""
        drawn = np.ones(len(weight))
        if self.rate:
            rows = np.arange(self.shown[expert], self.shown[expert] + len(weight))
            chance = uniform(derive_seed(self.seed, expert), rows)
            drawn = stats.poisson.ppf(chance, self.rate)
        self.shown[expert] += len(weight)
        counts: list[float] = (weight.cpu().double().numpy() * drawn).tolist()
        return counts

    def _watch(self, expert: int, wrong: bool) -> None:
        warning, drift = self.detectors[expert]
        before = warning.estimation, drift.estimation
        for detector in (warning, drift):
            detector.update(float(wrong))
        if warning.drift_detected and warning.estimation > before[0]:
            self.background[expert] = self._plant()
            self.detectors[expert] = (ADWIN(delta=WARNING), drift)
        if drift.drift_detected and drift.estimation > before[1]:
            self.trees[expert] = self.background[expert] or self._plant()
            self.background[expert] = None
            self.detectors[expert] = _detectors()

    def _table(self, said: list[dict[int, float]], x: Tensor) -> Tensor:
        """Answers as a table (n, C); where a tree knows nothing, all classes alike."""
        table = np.full((len(said), self.classes), 1e-9)
        for i, answer in enumerate(said):
            for label, share in answer.items():
                table[i, label] += share
        table /= table.sum(1, keepdims=True)
        return torch.from_numpy(table).to(x.device, torch.float32)


def uniform(seed: int, numbers: np.ndarray) -> np.ndarray:
    """A number between 0 and 1 for each whole number, evenly spread, by mixing its bits (splitmix64)."""
    with np.errstate(over="ignore"):
        bits = np.uint64(seed) + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
    spread: np.ndarray = (bits >> np.uint64(11)).astype(float) * 2.0**-53
    return spread


def _ask(planted: Planted, row: list[float]) -> dict[int, float]:
    columns, tree = planted
    answer: dict[int, float] = tree.predict_proba_one({column: row[column] for column in columns})
    return answer


def _detectors() -> tuple[ADWIN, ADWIN]:
    """One that warns, and one that tells a drift."""
    return ADWIN(delta=WARNING), ADWIN(delta=DRIFT)
