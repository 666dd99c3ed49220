"""The shared expert and its gate."""

import torch
from collegium import MoE
from collegium.experts import MLP, Shared
from collegium.routers import TopK
from torch import nn


def test_the_gate_scales_by_a_sigmoid_a_token() -> None:
    shared, x = Shared(nn.Linear(4, 3), dim=4), torch.randn(6, 4)
    wanted = torch.sigmoid(x @ shared.gate.weight[0])[:, None] * shared.module(x)
    torch.testing.assert_close(shared(x), wanted)


def test_without_gate_it_is_the_module() -> None:
    linear, x = nn.Linear(4, 3), torch.randn(6, 4)
    shared = Shared(linear, dim=4, gate=False)
    assert shared.gate is None
    assert torch.equal(shared(x), linear(x))


def test_in_a_layer_it_adds_to_the_routed_experts() -> None:
    shared, x = Shared(nn.Linear(4, 4), dim=4), torch.randn(2, 3, 4)
    routed = MoE(TopK(4, 3), MLP(4, 3, hidden=5))
    both = MoE(routed.router, routed.experts, shared)
    torch.testing.assert_close(both(x), routed(x) + shared(x))
