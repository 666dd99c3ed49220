"""Rows to the ranks that hold their experts, and back.

Legend: R ranks, E experts, L = E / R of them on each rank, A own rows, B received rows.
"""

from itertools import chain

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup
from torch.distributed.nn.functional import all_to_all_single


class Exchange:
    """Who sends how many rows to whom in one call of a layer; every rank of the group makes one at a time.

    Args:
        counts: (E,) own rows of each expert; experts r * L to (r + 1) * L - 1 live on rank r of the group.
        group: R ranks.

    Attributes:
        counts: (L,) rows of each expert of this rank, from all ranks together.
    """

    def __init__(self, counts: Tensor, group: ProcessGroup) -> None:
        self.group = group
        sent_RL = counts.contiguous().view(group.size(), -1)
        got_RL = torch.empty_like(sent_RL)
        distributed.all_to_all_single(got_RL, sent_RL, group=group)
        self.counts = got_RL.sum(0)
        self._sent: list[int] = sent_RL.sum(1).tolist()
        self._got: list[list[int]] = got_RL.tolist()

    def send(self, x: Tensor) -> Tensor:
        """Own rows (A, ...) sorted by expert to rows (B, ...) of this rank's experts, sorted by expert."""
        arrived = self._swap(x, self._sent, [sum(row) for row in self._got])
        return _transposed(arrived, self._got)

    def send_back(self, y: Tensor) -> Tensor:
        """What the experts made of the rows (B, ...) to the own rows (A, ...), in the order they had."""
        by_rank = _transposed(y, [list(column) for column in zip(*self._got, strict=True)])
        return self._swap(by_rank, [sum(row) for row in self._got], self._sent)

    def _swap(self, x: Tensor, sent: list[int], got: list[int]) -> Tensor:
        out = x.new_empty(sum(got), *x.shape[1:])
        swapped: Tensor = all_to_all_single(out, x.contiguous(), got, sent, self.group)
        return swapped


def _transposed(x: Tensor, sizes: list[list[int]]) -> Tensor:
    """Rows laid out as blocks (i, j) of so many rows, i first, to blocks (j, i)."""
    blocks = iter(x.split(list(chain.from_iterable(sizes))))
    table = [[next(blocks) for _ in row] for row in sizes]
    return torch.cat([block for column in zip(*table, strict=True) for block in column])
