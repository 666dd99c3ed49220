"""What the field would pick instead: boosted trees, and the mixtures of torch-rechub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apps.common.compare import Arm, Cost, Fitted, Outcome, Trial
from apps.recsys.bodies import Body
from apps.recsys.comparison.networks import data_for, of_size, size_of, sizes_of
from apps.recsys.comparison.outcome import outcome, score
from apps.recsys.data import Data
from apps.recsys.encoding import Sizes
from apps.recsys.impressions import Batch, Impressions
from apps.recsys.levels import Groups
from apps.recsys.metrics import FEWEST
from apps.recsys.model import Ranker
from apps.recsys.scored import Scored, with_chances

MOST_CATEGORIES = 256
"""Up to so many categories trees part a column as a set; ids of more are ordered by how often they come."""
TREES, PATIENCE = 500, 30


FIXED: dict[str, Any] = {"metric": "auc", "subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.8}
"""Options of LightGBM that are no matter of choice."""


class BoostedTrees(Arm):
    """LightGBM, a model for each task, as many trees as have the greatest validation AUC."""

    def __init__(self, budget: Mapping[str, Any]) -> None:
        self.budget, self.trials = budget, budget["trials"]["gbdt"]
        fixed = {"trees": TREES, "patience": PATIENCE, "most_categories": MOST_CATEGORIES}
        self.settings = {**FIXED, **fixed, "chosen_by": FEWEST}

    def fit(self, data: str, trial: Trial, seed: int) -> Fitted:
        """Grow trees for each task, until validation AUC has not risen for 30 of them."""
        from lightgbm import LGBMClassifier, early_stopping

        module = data_for(data, self.budget, seed)
        words = map(len, module.encoder.vocabularies.values())
        few = [column for column, size in enumerate(words) if size <= MOST_CATEGORIES]
        train, validation = module.part("train"), module.part("validation")
        tables = tuple(table_of(rows, module) for rows in (train, validation))
        stop = early_stopping(PATIENCE, verbose=False)
        models = []
        for place in range(train.batch.labels.shape[1]):
            model = LGBMClassifier(
                n_estimators=TREES,
                random_state=seed,
                n_jobs=1,
                verbose=-1,
                **FIXED,
                **trial,
            )
            held = _known(tables[1], validation, place)
            model.fit(
                *_known(tables[0], train, place),
                eval_X=held[0],
                eval_y=held[1],
                categorical_feature=few,
                callbacks=[stop],
            )
            models.append(model)
        return FittedTrees(models, module, self.budget["fewest"])


class FittedTrees(Fitted):
    """Grown trees."""

    def __init__(self, models: Sequence[Any], data: Data, fewest: int) -> None:
        self.models, self.data, self.fewest = models, data, fewest
        self.validation = score(self.ask(data.part("validation")))

    def ask(self, rows: Impressions) -> Scored:
        """Chances of all rows."""
        table = table_of(rows, self.data)
        chances = np.stack([model.predict_proba(table)[:, 1] for model in self.models], 1)
        return with_chances(chances, list(self.data.schema.tasks), rows)

    def test(self) -> Outcome:
        """Open the test rows."""
        leaves = sum(model.booster_.num_trees() * model.get_params()["num_leaves"] for model in self.models)
        return outcome(self.ask(self.data.part("test")), Cost(total_params=leaves), self.fewest)


class Rechub(Ranker):
    """A mixture of torch-rechub on our batches, as large as another body, and with scores that begin alike.

    Args:
        kind: "mmoe" or "ple".
        like: (D, names of the tasks of each group) -> the other body.
        dim: width of an embedding.
        out: width of an expert's output.
        tower: width inside a tower.
        dropout: inside experts.
    """

    def __init__(
        self,
        kind: str,
        like: Callable[[int, Groups], Body],
        dim: int = 16,
        out: int = 64,
        tower: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(dim=dim, tower=tower, dropout=dropout)
        self.kind, self.like, self.out = kind, like, out

    def build(self, sizes: Sizes, items: int, groups: Groups, prior: Sequence[float] | None = None) -> None:
        """Make the model of the library."""
        wide = (len(sizes.ids) + len(sizes.tags)) * self.dim + sizes.values
        self.model = of_size(partial(self._model, sizes), self.like, wide, groups, experts_of)
        if prior is not None:
            begin = torch.tensor(prior).clamp(1e-4, 1 - 1e-4).logit().tolist()
            for tower, value in zip(self.model.get_submodule("towers").children(), begin, strict=True):
                *_, last = tower.get_submodule("mlp").children()
                assert isinstance(last, nn.Linear)
                nn.init.constant_(last.bias, value)
        self.size = (
            [list(sizes.ids), sizes.values, list(sizes.tags)],
            items,
            [list(names) for names in groups],
        )

    def _model(self, sizes: Sizes, width: int, groups: Groups, hidden: int) -> nn.Module:
        from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
        from torch_rechub.models.multi_task import MMOE, PLE

        features = [SparseFeature(f"id{c}", size, self.dim) for c, size in enumerate(sizes.ids)]
        features += [
            SequenceFeature(f"tags{c}", size, self.dim, pooling="mean", padding_idx=0)
            for c, size in enumerate(sizes.tags)
        ]
        features += [DenseFeature(f"value{c}") for c in range(sizes.values)]
        experts = {"dims": [hidden, self.out], "activation": "relu", "dropout": self.dropout}
        tasks = sum(map(len, groups))
        towers = [{"dims": [self.tower], "activation": "relu"}] * tasks
        kinds = ["classification"] * tasks
        made: nn.Module = (
            MMOE(features, kinds, 6, experts, towers)
            if self.kind == "mmoe"
            else PLE(features, kinds, 2, 1, 2, experts, towers)
        )
        return made

    def forward(self, batch: Batch) -> Tensor:
        """Scores (B, K): the logits of its chances."""
        rows = batch.rows
        columns = {f"id{c}": column for c, column in enumerate(rows.ids.unbind(1))}
        columns |= {f"tags{c}": column for c, column in enumerate(rows.tags.unbind(1))}
        columns |= {f"value{c}": column for c, column in enumerate(rows.values.unbind(1))}
        chance: Tensor = self.model(columns)
        return torch.logit(chance, eps=1e-6)


def experts_of(model: nn.Module) -> int:
    """Parameters of what lies between embeddings and towers."""
    return size_of(model) - size_of(model.get_submodule("embedding")) - size_of(model.get_submodule("towers"))


def table_of(rows: Impressions, data: Data) -> np.ndarray:
    """(N, columns) what trees see: the ids of words, numbers by their quantile, and which tags a row has.

    Of a column with more than `MOST_CATEGORIES` tags the first one of a row stands for all.
    """
    parts, words = rows.batch.rows, len(data.encoder.vocabularies)
    found = [parts.ids[:, :words].numpy(), parts.values.numpy()]
    for column, size in enumerate(sizes_of(data).tags):
        tags = parts.tags[:, column].numpy()
        if size > MOST_CATEGORIES:
            found.append(tags[:, :1])
            continue
        has = np.zeros((len(tags), size), dtype=np.float32)
        np.put_along_axis(has, tags, 1.0, 1)
        found.append(has[:, 1:])  # the first id is none
    return np.concatenate([part.astype(np.float32) for part in found], 1)


def _known(table: np.ndarray, rows: Impressions, task: int) -> tuple[np.ndarray, np.ndarray]:
    label = rows.batch.labels[:, task].numpy()
    known = ~np.isnan(label)
    return table[known], label[known]
