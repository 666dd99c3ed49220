"""A convolution over the cells around a cell, each channel by itself.

Legend: T cells, D channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Around(torch.autograd.Function):
    """Gathers alone: as who lies beside whom is mutual, the transpose is the same with steps reversed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, beside: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, beside)
        return _sum(x, weight, beside)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, beside = ctx.saved_tensors
        (grad,) = grads
        padded = _padded(x)
        of_weight = torch.stack([(grad * padded.index_select(0, rows)).sum(0) for rows in beside])
        return _sum(grad, weight.flip(0), beside), of_weight, None


def around(x: Tensor, weight: Tensor, beside: Tensor) -> Tensor:
    """(T, D) sum over the cells around each of their values times the weights of that step.

    Args:
        x: (T, D).
        weight: (27, D).
        beside: (27, T) the cells around each, T where there is none; the steps of the first half are those of
            the second in reverse, see `levels.AROUND`.
    """
    y: Tensor = _Around.apply(x, weight, beside)  # type: ignore[no-untyped-call]
    return y


def _sum(x: Tensor, weight: Tensor, beside: Tensor) -> Tensor:
    padded, y = _padded(x), torch.zeros_like(x)
    for rows, own in zip(beside, weight, strict=True):
        y.addcmul_(padded.index_select(0, rows), own)
    return y


def _padded(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_zeros(1, x.shape[1])])
