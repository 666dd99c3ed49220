"""Semantic ids: an item as a few words of a small vocabulary, the first of which tell what kind it is.

Source: OneRec (Deng et al. 2025, arXiv 2502.18965, section 3.2; Technical Report 2506.13695, section 2.2):
residual k-means, level over level. A last word, as in TIGER (Rajput et al. 2023, section 3.1), tells items
apart that have all others alike.

Legend: I ids of items, N items among them, d width of a vector, T words an item.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import svds
from sklearn.cluster import KMeans
from torch import Tensor

from apps.recsys.encoding import Encoded
from apps.recsys.sequences import FIRST

SPAN = 5
"""Items of a window that count as taken together."""


@dataclass
class Codebooks:
    """Centres (words, d) of each level; a vector is told by the nearest one, and what is left by the next."""

    centres: list[np.ndarray]

    @classmethod
    def fit(cls, vectors: np.ndarray, words: Sequence[int], seed: int = 0) -> Codebooks:
        """Cluster vectors (N, d), then what their centres leave, once a level.

        Args:
            vectors: (N, d).
            words: how many centres each level has; no more than there are vectors.
            seed: of the clustering.
        """
        left, centres = vectors, []
        for number in words:
            found = KMeans(min(number, len(np.unique(left, axis=0))), n_init=3, random_state=seed).fit(left)
            centres.append(found.cluster_centers_)
            left = left - centres[-1][found.labels_]
        return cls(centres)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(N, levels) int64 words of vectors (N, d)."""
        left, words = vectors, []
        for centres in self.centres:
            distance = (centres**2).sum(1) - 2 * left @ centres.T
            words.append(distance.argmin(1))
            left = left - centres[words[-1]]
        return np.stack(words, 1)

    def decode(self, words: np.ndarray) -> np.ndarray:
        """Vectors (N, d) that words (N, levels) stand for, of the first levels if these are fewer."""
        said = [centres[column] for centres, column in zip(self.centres, words.T, strict=False)]
        return np.asarray(np.sum(said, axis=0))


def told_apart(words: np.ndarray) -> np.ndarray:
    """Words (N, T - 1) with a last one (N, T): 0, 1, ... among items whose others are alike."""
    seen: dict[tuple[int, ...], int] = defaultdict(int)
    last = np.zeros(len(words), dtype=np.int64)
    for place, own in enumerate(map(tuple, words.tolist())):
        last[place] = seen[own]
        seen[own] += 1
    return np.concatenate([words, last[:, None]], 1)


def item_vectors(
    items: Tensor, contents: Encoded, number: int, weight: float = 0.5, dim: int = 32
) -> np.ndarray:
    """(I, d) of each id: with what it is taken together, and what is known of it.

    The former are left singular vectors of the positive pointwise mutual information of items within a few
    steps of one another (Levy and Goldberg 2014), the latter its categories and tags as zeros and ones.

    Args:
        items: (B, L + 1) windows of training.
        contents: (I, ...) of each id.
        number: I.
        weight: how long what is known of an item is, a column at a time, to what it is taken with.
        dim: of the singular vectors.
    """
    pairs = [
        (items[:, :-step].flatten(), items[:, step:].flatten())
        for step in range(1, min(SPAN, items.shape[1]))
    ]
    one, other = (torch.cat(side).numpy() for side in zip(*pairs, strict=True))
    known = (one >= FIRST) & (other >= FIRST)
    one, other = np.concatenate([one[known], other[known]]), np.concatenate([other[known], one[known]])
    together = coo_matrix((np.ones(len(one)), (one, other)), shape=(number, number)).tocsr().tocoo()
    total = np.asarray(together.sum(1)).ravel()
    ratio = together.data * total.sum() / (total[together.row] * total[together.col])
    told = coo_matrix((np.log(np.maximum(ratio, 1)), (together.row, together.col)), shape=(number, number))
    rank = min(dim, number - 1)
    left, size, _ = svds(told.astype(np.float64), k=rank, v0=np.ones(number), solver="arpack")
    taken = left * np.sqrt(size)
    kinds = [np.eye(int(column.max()) + 1)[column.numpy()] for column in contents.ids.unbind(1)]
    for column in contents.tags.unbind(1):
        several = np.eye(int(column.max()) + 1)[column.numpy()].sum(1)
        several[:, 0] = 0
        kinds.append(several)
    parts = [(taken, 1.0), *((part, weight) for part in kinds)]
    scaled = [weight * part / max(float(np.linalg.norm(part, axis=1).mean()), 1e-9) for part, weight in parts]
    return np.concatenate(scaled, 1)
