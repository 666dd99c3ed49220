"""A peer that is written in Java: MOA's adaptive random forest, by CapyMOA."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from apps.common.compare import Arm, Fitted, Trial
from apps.common.errors import UserError
from apps.drift.comparison.measured import Measured, stream
from apps.drift.schema import Row


class MoaForest(Arm):
    """MOA's adaptive random forest with `trees` trees, else as CapyMOA has it; words are nominal values.

    Source: Gomes et al. (2017), Adaptive random forests for evolving data stream classification.
    """

    most_seeds = 3

    def __init__(self, budget: Mapping[str, Any], trees: int) -> None:
        self.budget, self.trees = budget, trees
        self.settings = {"learner": "moa_arf", "trees": trees}

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Run over the stream once, row by row. Raises UserError where there is no Java runtime."""
        _java()
        from capymoa.classifier import AdaptiveRandomForestClassifier
        from capymoa.core import LabeledInstance
        from capymoa.stream import Schema

        rows = stream(data, self.budget["rows"], seed)
        table, y, _ = rows.read()
        x, levels = as_numbers(table)
        label = y.numpy()
        classes = [str(i) for i in range(int(label.max()) + 1)]
        features = list(table[0])
        schema = Schema.from_custom([*features, "label"], "label", {**levels, "label": classes}, data)
        forest = AdaptiveRandomForestClassifier(schema, ensemble_size=self.trees, random_seed=seed)
        said, start = np.zeros(len(label), dtype=int), time.process_time()
        for i, (row, wanted) in enumerate(zip(x, label, strict=True)):
            instance = LabeledInstance.from_array(schema, row, wanted)
            said[i] = forest.predict(instance) or 0
            forest.train(instance)
        return Measured(label, said, rows.drifts, rows.width, len(label) / (time.process_time() - start))


def as_numbers(table: Sequence[Row]) -> tuple[np.ndarray, dict[str, list[str]]]:
    """The rows as float64 (N, D), NaN where there is nothing, and the words of each column that has any.

    A word is told by its place among the words of its column.
    """
    x, levels = np.full((len(table), len(table[0])), np.nan), {}
    for column, name in enumerate(table[0]):
        values = [row.get(name) for row in table]
        words = sorted({value for value in values if isinstance(value, str)})
        if words:
            levels[name] = words
        place = {word: i for i, word in enumerate(words)}
        x[:, column] = [np.nan if value is None else place.get(value, value) for value in values]
    return x, levels


def _java() -> None:
    try:
        import capymoa.core  # noqa: F401  (starts the Java machine)
    except Exception as error:
        raise UserError(
            f"the arm moa_arf needs a Java runtime, 17 or later, and found none ({error}): install one, or "
            "choose a profile without it."
        ) from error
