"""All tokens to all experts: static shapes, for export and compilation, and the reference of the tests."""

import torch
from torch import Tensor, nn

from collegium.routing import Routing


def run_dense(x: Tensor, routing: Routing, experts: nn.Module, side: dict[str, Tensor]) -> Tensor:
    """Tokens (T, \\*item) to (T, \\*out), weighting every expert's output by the table of weights.

    (T, G, \\*out) for G gates.
    """
    T, E = routing.num_tokens, routing.num_experts
    everywhere = {name: value.repeat(E, *[1] * (value.ndim - 1)) for name, value in side.items()}
    y = experts(x.repeat(E, *[1] * (x.ndim - 1)), T, **everywhere)
    weight = routing.dense_weight().to(y.dtype)
    equation = "te,et...->t..." if weight.ndim == 2 else "teg,et...->tg..."
    return torch.einsum(equation, weight, y.reshape(E, T, *y.shape[1:]))
