"""Activations with their derivatives, by name."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_aten = torch.ops.aten


class Activation(NamedTuple):
    """``forward(z)`` and ``backward(grad, z)``; ``widen`` columns of z make one column of the output."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    widen: int = 1


def swiglu(z: Tensor) -> Tensor:
    """silu(gate) * value, the gate being the first half of the columns (Shazeer 2020, eq. 6)."""
    gate, value = z.chunk(2, -1)
    return F.silu(gate) * value


def _swiglu_backward(grad: Tensor, z: Tensor) -> Tensor:
    gate, value = z.chunk(2, -1)
    return torch.cat([_aten.silu_backward(grad * value, gate), grad * F.silu(gate)], -1)


ACTIVATIONS = {
    "gelu": Activation(F.gelu, lambda grad, z: _aten.gelu_backward(grad, z)),
    "relu": Activation(F.relu, lambda grad, z: grad * (z > 0)),
    "silu": Activation(F.silu, lambda grad, z: _aten.silu_backward(grad, z)),
    "swiglu": Activation(swiglu, _swiglu_backward, widen=2),
}
