"""Tokens by segment: what a router that compares the tokens of a sequence or an image works on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from collegium.context import Context


@dataclass(frozen=True, eq=False)
class Segments:
    """The T tokens of a call laid out as B segments of at most L, in their order.

    A segment is what ``context.segment`` says within one index of the input's first dim (so that ids may
    begin anew in each row of a batch), or else that index (so that the images of a batch do not mix), or else
    the whole input. Where the input has one leading dim alone, ids are those of the whole input.

    Args:
        index: (B, L) int64, the token at each place; 0 where there is none.
        real: (B, L) bool, False at places without a token and at masked tokens.
        place: (T,) int64, where each token stands among the B * L places.
    """

    index: Tensor
    real: Tensor
    place: Tensor

    @classmethod
    def of(cls, x: Tensor, context: Context) -> "Segments":
        """Lay out the tokens x (T, D)."""
        T, mask = x.shape[0], context.mask
        if context.segment is None:
            shape = context.shape or (T,)
            B = 0 if T == 0 else shape[0] if len(shape) > 1 else 1
            place = torch.arange(T, device=x.device)
            index = place.view(B, T // B if B else 1)
            return cls(
                index, torch.ones_like(index, dtype=torch.bool) if mask is None else mask[index], place
            )
        _, segment, sizes = segment_ids(context).unique(return_inverse=True, return_counts=True)
        order = segment.sort(stable=True).indices
        L = int(sizes.max()) if T else 1
        rank = torch.arange(T, device=x.device) - (sizes.cumsum(0) - sizes)[segment[order]]
        place = torch.empty_like(order).scatter_(0, order, segment[order] * L + rank)
        index = place.new_zeros(len(sizes) * L).scatter_(0, place, torch.arange(T, device=x.device))
        real = torch.zeros_like(index, dtype=torch.bool)
        real[place] = True if mask is None else mask
        return cls(index.view(-1, L), real.view(-1, L), place)

    def lay_out(self, value: Tensor) -> Tensor:
        """(T, \\*rest) to (B, L, \\*rest); what stands at places without a token has no meaning."""
        return value[self.index]

    def take_back(self, value: Tensor) -> Tensor:
        """(B, L, \\*rest) to (T, \\*rest)."""
        return value.flatten(0, 1)[self.place]


def segment_ids(context: Context) -> Tensor:
    """(T,) int64, the ids of ``context.segment``, other ones in each row of an input that has rows."""
    segment, shape = context.segment, context.shape or ()
    assert segment is not None
    if len(shape) < 2 or not len(segment):
        return segment
    ids, own = segment.unique(return_inverse=True)
    row = torch.arange(len(segment), device=segment.device) // (len(segment) // shape[0])
    numbered: Tensor = row * len(ids) + own
    return numbered
