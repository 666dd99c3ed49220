"""Activations: their derivatives are what autograd says."""

import pytest
import torch
from collegium.dispatch.activations import ACTIVATIONS

from tests.core.blocks import doubles


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_backward_is_the_derivative_of_forward(name: str) -> None:
    act, z = ACTIVATIONS[name], doubles(5, 6)
    y = act.forward(z)
    assert y.shape == (5, 6 // act.widen)
    grad = torch.randn_like(y)
    (wanted,) = torch.autograd.grad(y, z, grad)
    torch.testing.assert_close(act.backward(grad, z.detach()), wanted)
