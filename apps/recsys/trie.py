"""Which words of semantic ids may follow one another, so that what is written is an item.

Legend: B users, I ids of items, T words an item.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from apps.recsys.sequences import FIRST


@dataclass
class Trie:
    """Which words may follow.

    children: of each level (nodes, most) the node behind each word, -1 where there is none; at: of each level
    (I,) the node behind that word of each item, 0 of ids that are of none; items: (leaves,) the item at each
    node of the last level.
    """

    children: list[Tensor]
    at: list[Tensor]
    items: Tensor

    @classmethod
    def of(cls, codes: Tensor, most: int) -> Trie:
        """Of the words (I, T) of items, each below `most`; the first ids are of none."""
        known = codes[FIRST:]
        node = torch.zeros(len(known), dtype=torch.int64, device=codes.device)
        children, at, nodes = [], [], 1
        for word in known.unbind(1):
            found, node = torch.unique(node * most + word, return_inverse=True)
            table = torch.full((nodes, most), -1, device=codes.device)
            table[found // most, found % most] = torch.arange(len(found), device=codes.device)
            children.append(table)
            at.append(F.pad(node, (FIRST, 0)))
            nodes = len(found)
        items = torch.zeros(nodes, dtype=torch.int64, device=codes.device)
        items[node] = torch.arange(FIRST, len(codes), device=codes.device)
        return cls(children, at, items)

    def left(self, level: int, without: Tensor) -> Tensor:
        """(B, nodes) how many items lie behind each node of a level, without some (B, I) bool."""
        node = self.at[level][FIRST:].expand(len(without), -1)
        nodes = int((self.children[level] >= 0).sum())
        there = (~without[:, FIRST:]).long()
        return torch.zeros(len(without), nodes, dtype=torch.int64, device=node.device).scatter_add(
            1, node, there
        )
