"""The arms: our mixtures and their controls, learners of river, and rules."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from collegium import inspection
from lightning import seed_everything

from apps.common.compare import Arm, Cost, Fitted, Trial
from apps.drift.comparison.measured import Measured, stream
from apps.drift.data import Data
from apps.drift.history import History
from apps.drift.learner import model_of
from apps.drift.metrics import Rule
from apps.drift.model import StreamModel, step
from apps.drift.schema import Row


class Network(Arm):
    """A stream model, its router and networks trained with AdamW.

    Args:
        budget: gives rows, and the model's entry below `networks`: class_path, init_args, and perhaps by data
            set the columns that come round.
        name: of that entry; of its trials, unless the entry has its own.
        most_seeds: where it is slow.
    """

    def __init__(self, budget: Mapping[str, Any], name: str, most_seeds: int | None = None) -> None:
        self.budget, self.most_seeds = budget, most_seeds
        self.settings = budget["networks"][name]
        self.trials = budget["trials"].get(name, [{}])

    def same_as(self, data: str, trial: Trial) -> tuple[str, Trial] | None:
        """Of a set without columns that come round, `routed`."""
        return ("routed", trial) if data not in self.settings.get("cycles", {data: None}) else None

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Run over the stream once, predicting a chunk before it is learned; to read columns counts too."""
        rows = stream(data, self.budget["rows"], seed, self.settings.get("cycles", {}).get(data))
        raw, _, _ = rows.read()
        start = time.process_time()
        rows.x = rows.encoded(raw)
        network, history = self.run(rows, trial, seed)
        speed = len(rows.y) / (time.process_time() - start)
        table = history.table()
        active, total = inspection.parameters(network)
        return Measured(
            table["label"], table["predicted"], rows.drifts, rows.width, speed, Cost(active, total)
        )

    def run(self, rows: Data, trial: Trial, seed: int) -> tuple[StreamModel, History]:
        """A model that has gone over a stream, and what it said."""
        seed_everything(seed, verbose=False)
        told = {key: value for key, value in {**self.settings, **trial}.items() if key != "cycles"}
        chunk, rate = told.pop("chunk"), told.pop("learning_rate")
        network = model_of(told)
        network.build(len(rows.features), rows.labels.capacity)
        trained = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0) if trained else None
        history = History()
        for first in range(0, len(rows.y), chunk):
            part = slice(first, first + chunk)
            found = step(network, optimizer, rows.x[part], rows.y[part], rows.group[part])
            history.add(rows.y[part], found.probs, found.said, found.trust)
        return network, history


class River(Arm):
    """A learner of river, which reads the columns as they are, words as words; a trial gives its options.

    Args:
        budget: gives rows and trials.
        make: seed and options -> learner.
        name: of the learner.
    """

    def __init__(self, budget: Mapping[str, Any], make: Callable[..., Any], name: str) -> None:
        self.budget, self.make, self.most_seeds = budget, make, 3
        self.settings, self.trials = {"learner": name}, budget["trials"].get(name, [{}])

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Run over the stream once, row by row."""
        rows = stream(data, self.budget["rows"], seed)
        table, y, _ = rows.read()
        start = time.process_time()
        _, said = self.run(table, y.tolist(), trial, seed)
        speed = len(y) / (time.process_time() - start)
        return Measured(y.numpy(), said, rows.drifts, rows.width, speed)

    def run(self, table: Sequence[Row], y: Sequence[int], trial: Trial, seed: int) -> tuple[Any, np.ndarray]:
        """A learner that has gone over rows, and what it said of each."""
        learner, said = self.make(seed=seed, **trial), np.zeros(len(y), dtype=int)
        for i, (row, label) in enumerate(zip(table, y, strict=True)):
            said[i] = learner.predict_one(row) or 0
            learner.learn_one(row, label)
        return learner, said


class Floor(Arm):
    """A rule that looks at past labels alone."""

    def __init__(self, budget: Mapping[str, Any], rule: Rule) -> None:
        self.budget, self.rule = budget, rule

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Nothing to fit."""
        rows = stream(data, self.budget["rows"], seed)
        label = rows.y.numpy()
        return Measured(label, self.rule(label), rows.drifts, rows.width)
