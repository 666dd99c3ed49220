"""Tokens to rows, one row an assignment, and back: a gather, a weighted sum, and their gradients.

Both backward passes avoid ``index_add`` where every token has the same number of rows (``position``), and are
written with differentiable operations, so that gradients of gradients work.
"""

import math
from typing import Any

import torch
from torch import Tensor

from collegium.routing import Routing


def gather_rows(x: Tensor, routing: Routing) -> Tensor:
    """Tokens (T, \\*item) to rows (A, \\*item), sorted by expert."""
    rows: Tensor = _Gather.apply(x, routing.token, routing.position)
    return rows


def combine_rows(y: Tensor, routing: Routing) -> Tensor:
    """Rows (A, \\*out) to tokens (T, \\*out): the sum of each token's rows by ``routing.weight``."""
    flat = y.reshape(y.shape[0], math.prod(y.shape[1:]))
    weight = routing.weight.to(y.dtype)
    out: Tensor = _Combine.apply(flat, weight, routing.token, routing.position, routing.num_tokens)
    return out.view(routing.num_tokens, *y.shape[1:])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, position: Tensor | None) -> Tensor:
        ctx.save_for_backward(token, position)
        ctx.num_tokens = x.shape[0]
        return x.index_select(0, token)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        token, position = ctx.saved_tensors
        return _Sum.apply(grad, token, position, ctx.num_tokens), None, None


class _Sum(torch.autograd.Function):
    """The transpose of _Gather: add up each token's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, token: Tensor, position: Tensor | None, tokens: int) -> Tensor:
        ctx.save_for_backward(token, position)
        if position is None:
            return rows.new_zeros(tokens, *rows.shape[1:]).index_add_(0, token, rows)
        total = rows.index_select(0, position[:, 0])
        for j in range(1, position.shape[1]):
            total += rows.index_select(0, position[:, j])
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        token, position = ctx.saved_tensors
        return _Gather.apply(grad, token, position), None, None, None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, weight: Tensor, token: Tensor, position: Tensor | None, tokens: int
    ) -> Tensor:
        ctx.save_for_backward(y, weight, token, position)
        if position is None:
            return y.new_zeros(tokens, y.shape[1]).index_add_(0, token, y * weight[:, None])
        share = weight[position]
        total = y.index_select(0, position[:, 0]).mul_(share[:, :1])
        for j in range(1, position.shape[1]):
            total.addcmul_(y.index_select(0, position[:, j]), share[:, j : j + 1])
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        y, weight, token, position = ctx.saved_tensors
        rows = _Gather.apply(grad, token, position)
        return rows * weight[:, None], (y * rows).sum(1), None, None, None
