"""What tells a user's next item from those before.

Legend: B users, L items of a history, D width, I ids of items, of which 0 is none and 1 all unseen ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apps.recsys.encoding import Encoded, Sizes
from apps.recsys.sequences import FIRST, Walk


class Recommender(nn.Module, ABC):
    """A network that is trained on windows and scores items for a user. It is built when the log is known.

    Attributes:
        progress: share of the training that is over; the task keeps it.
    """

    progress: float = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.size: tuple[Any, ...] | None = None

    def build(self, profile: Sizes, items: int, length: int) -> None:
        """Make the parameters, unless they are there.

        Args:
            profile: of the encoder of users.
            items: I.
            length: L, of the longest history.

        Raises:
            ValueError: a router that asks for what this model does not give.
        """
        if self.size is None:
            self._make(profile, items, length)
            self.size = ([list(profile.ids), profile.values, list(profile.tags)], items, length)

    @property
    def ready(self) -> bool:
        """Whether what it is by now may be kept: True, unless a network is trained in stages."""
        return True

    def study(self, walk: Walk, contents: Encoded) -> None:
        """Learn what must be known before training: nothing, unless a network says otherwise.

        Args:
            walk: all windows of training.
            contents: (I, ...) what is known of the items.
        """

    @abstractmethod
    def _make(self, profile: Sizes, items: int, length: int) -> None:
        """Make the parameters."""

    @abstractmethod
    def loss(self, walk: Walk) -> Tensor:
        """Of a batch of windows."""

    @abstractmethod
    def scores(self, walk: Walk) -> Tensor:
        """(B, I) of each item as the next; minus infinity where it cannot be."""


def known_only(scores: Tensor) -> Tensor:
    """Scores (B, I) without ids that are of no item."""
    return scores.index_fill(1, torch.arange(FIRST, device=scores.device), -torch.inf)


def next_item_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of scores (..., I) for targets (...); those that are no known item are left out."""
    wanted = torch.where(target >= FIRST, target, -100)
    return F.cross_entropy(scores.flatten(0, -2), wanted.flatten(), ignore_index=-100)


class SelfAttention(Recommender):
    """SASRec: causal self-attention over the history (Kang and McAuley 2018).

    It is trained by cross-entropy over all items and not by one negative an item, which makes it stronger
    (Klenitskiy and Vasilev 2023).

    Args:
        dim: D.
        depth: layers.
        heads: of attention.
        dropout: everywhere.
        few: share of the loss of what is told from masked histories, as of users with few items; 0 as usual.
        masked: share of the items that are masked there.
    """

    def __init__(
        self,
        dim: int = 64,
        depth: int = 2,
        heads: int = 2,
        dropout: float = 0.3,
        few: float = 0.0,
        masked: float = 0.5,
    ) -> None:
        super().__init__()
        self.dim, self.depth, self.heads, self.dropout = dim, depth, heads, dropout
        self.few, self.masked = few, masked

    def _make(self, profile: Sizes, items: int, length: int) -> None:
        self.items = nn.Embedding(items, self.dim, padding_idx=0)
        self.places = nn.Embedding(length, self.dim)
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            self.dim, self.heads, 2 * self.dim, self.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, self.depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(self.dim)

    def loss(self, walk: Walk) -> Tensor:
        """Each item of a window is told from those before it, and from some of these."""
        history, coming = walk.items[:, :-1], walk.items[:, 1:]
        told = self._told(self._read(history), coming)
        if not self.few:
            return told
        hidden = self._hidden(history)
        less = self._told(self._read(history.masked_fill(hidden, 0)), coming.masked_fill(hidden, 0))
        return (1 - self.few) * told + self.few * less

    def scores(self, walk: Walk) -> Tensor:
        """By the state behind the last item."""
        return known_only(self._read(walk.history)[:, -1] @ self.items.weight.T)

    def _told(self, states: Tensor, coming: Tensor) -> Tensor:
        return next_item_loss(states @ self.items.weight.T, coming)

    def _hidden(self, history: Tensor) -> Tensor:
        """(B, L) which items are masked, at random; never the last."""
        hidden = torch.rand(history.shape, device=history.device) < self.masked
        hidden[:, -1] = False
        return hidden

    def _read(self, history: Tensor) -> Tensor:
        """(B, L) ids to (B, L, D), a state behind each item."""
        length = history.shape[1]
        places = self.places.weight[-length:]
        x = F.dropout(self.items(history) * self.dim**0.5 + places, self.dropout, self.training)
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        blank = (history == 0)[:, None, :] & ~torch.eye(length, dtype=torch.bool, device=x.device)
        mask = (later | blank).repeat_interleave(self.heads, 0)
        states: Tensor = self.norm(self.layers(x, mask))
        return states
