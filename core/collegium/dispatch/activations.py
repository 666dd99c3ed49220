"""Activations with their derivatives, by name."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_aten = torch.ops.aten


class Activation(NamedTuple):
    """What experts do between their two products.

    ``forward(z)``; ``overwrite(z)``, the same in the memory of z; ``backward(grad, z)``, which may take the
    memory of grad. ``widen`` columns of z make one column of the output.
    """

    forward: Callable[[Tensor], Tensor]
    overwrite: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    widen: int = 1


def swiglu(z: Tensor) -> Tensor:
    """silu(gate) * value, the gate being the first half of the columns (Shazeer 2020, eq. 6)."""
    gate, value = z.chunk(2, -1)
    return F.silu(gate) * value


def _swiglu_overwrite(z: Tensor) -> Tensor:
    gate, value = z.chunk(2, -1)
    return F.silu(gate, inplace=True).mul_(value)


def _swiglu_backward(grad: Tensor, z: Tensor) -> Tensor:
    gate, value = z.chunk(2, -1)
    return torch.cat([_aten.silu_backward(grad * value, gate), grad * F.silu(gate)], -1)


ACTIVATIONS = {
    "gelu": Activation(
        F.gelu,
        lambda z: _aten.gelu_(z),
        lambda grad, z: _aten.gelu_backward.grad_input(grad, z, grad_input=grad),
    ),
    "relu": Activation(
        F.relu,
        torch.relu_,
        lambda grad, z: _aten.threshold_backward.grad_input(grad, z, 0, grad_input=grad),
    ),
    "silu": Activation(
        F.silu,
        partial(F.silu, inplace=True),
        lambda grad, z: _aten.silu_backward.grad_input(grad, z, grad_input=grad),
    ),
    "identity": Activation(lambda z: z, lambda z: z, lambda grad, z: grad),
    "swiglu": Activation(swiglu, _swiglu_overwrite, _swiglu_backward, widen=2),
}
