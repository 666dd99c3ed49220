"""A ranker: features of an impression to a score for each task.

Legend: B rows, D width of the features, K tasks, L items of a history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from collegium import check_causal, check_needs
from collegium.experts import MLP
from torch import Tensor, nn
from torch.nn import functional as F

from apps.recsys.bodies import Body, HoME
from apps.recsys.encoding import Encoded, Sizes
from apps.recsys.impressions import Batch
from apps.recsys.levels import Groups


class Embedder(nn.Module):
    """Features to one vector: an embedding of each id, the mean of a cell's tags, numbers as they are, and
    the mean of the items that came before.

    Args:
        sizes: of the encoder.
        items: ids of items.
        dim: width of an embedding.
    """

    def __init__(self, sizes: Sizes, items: int, dim: int) -> None:
        super().__init__()
        starts = [0, *accumulate([*sizes.ids, *sizes.tags])]
        self.table = nn.Embedding(starts[-1], dim)
        self.items = nn.Embedding(items, dim, padding_idx=0)
        nn.init.normal_(self.table.weight, std=dim**-0.5 / 4)
        nn.init.normal_(self.items.weight, std=dim**-0.5 / 4)
        columns = len(sizes.ids)
        self.starts: Tensor
        self.tag_starts: Tensor
        self.register_buffer("starts", torch.tensor(starts[:columns], dtype=torch.int64), persistent=False)
        self.register_buffer(
            "tag_starts", torch.tensor(starts[columns:-1], dtype=torch.int64), persistent=False
        )
        self.width = (columns + len(sizes.tags) + 1) * dim + sizes.values

    def forward(self, rows: Encoded, history: Tensor) -> Tensor:
        """(B, D)."""
        ids = self.table(rows.ids + self.starts).flatten(1)
        tags = mean_of(self.table(rows.tags + self.tag_starts[:, None]), rows.tags > 0).flatten(1)
        past = mean_of(self.items(history), history > 0)
        return torch.cat([ids, tags, past, rows.values], 1)


class Ranker(nn.Module):
    """Embeddings, a body that gives a row to each task, and a tower for each.

    It is built when the features are known.

    Args:
        body: (D, names of the tasks of each group) -> (B, D) to (B, K, H).
        dim: width of an embedding.
        tower: width inside a tower.
        dropout: of the features.
    """

    def __init__(
        self,
        body: Callable[[int, Groups], Body] = HoME,
        dim: int = 16,
        tower: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.make, self.dim, self.tower, self.dropout = body, dim, tower, dropout
        self.size: tuple[Any, ...] | None = None

    def build(self, sizes: Sizes, items: int, groups: Groups, prior: Sequence[float] | None = None) -> None:
        """Make the parameters, unless they are there.

        Args:
            sizes: of the encoder.
            items: ids of items.
            groups: names of the tasks of each group.
            prior: share of positives of each task, where its scores begin.

        Raises:
            ValueError: a router that asks for what this model does not give.
        """
        if self.size is not None:
            return
        self.embedder = Embedder(sizes, items, self.dim)
        self.body = self.make(self.embedder.width, groups)
        check_needs(self, [])
        check_causal(self)
        tasks = len(self.body.tasks)
        self.towers = MLP(self.body.out, tasks, self.tower, "relu", 1)
        share = torch.full((tasks,), 0.5) if prior is None else torch.tensor(prior)
        self.bias = nn.Parameter(share.clamp(1e-4, 1 - 1e-4).logit())
        self.size = (
            [list(sizes.ids), sizes.values, list(sizes.tags)],
            items,
            [list(names) for names in groups],
        )

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, once it is built."""
        return [] if self.size is None else [name for names in self.size[2] for name in names]

    def forward(self, batch: Batch) -> Tensor:
        """Scores (B, K), the logits of the labels."""
        x = F.dropout(self.embedder(batch.rows, batch.history), self.dropout, self.training)
        rows = self.body(x).transpose(0, 1)
        scores: Tensor = self.towers(rows.flatten(0, 1), rows.shape[1]).view(rows.shape[:2])
        return scores.T + self.bias


class Separate(Ranker):
    """A ranker of its own for each task, embeddings included: what single-task learning gives.

    Args:
        body, dim, tower, dropout: of each.
    """

    def build(self, sizes: Sizes, items: int, groups: Groups, prior: Sequence[float] | None = None) -> None:
        """Make the parameters, unless they are there."""
        if self.size is not None:
            return
        names = [name for group in groups for name in group]
        rankers = [Ranker(self.make, self.dim, self.tower, self.dropout) for _ in names]
        for place, (ranker, name) in enumerate(zip(rankers, names, strict=True)):
            ranker.build(sizes, items, [[name]], None if prior is None else [prior[place]])
        self.rankers = nn.ModuleList(rankers)
        self.size = (
            [list(sizes.ids), sizes.values, list(sizes.tags)],
            items,
            [list(names) for names in groups],
        )

    def forward(self, batch: Batch) -> Tensor:
        """Scores (B, K)."""
        return torch.cat([ranker(batch) for ranker in self.rankers], 1)


def mean_of(vectors: Tensor, there: Tensor) -> Tensor:
    """Mean over the last but one dim of (..., M, d) of those that are there (..., M); zeros where none is."""
    return (vectors * there.unsqueeze(-1)).sum(-2) / there.sum(-1, keepdim=True).clamp(min=1)
