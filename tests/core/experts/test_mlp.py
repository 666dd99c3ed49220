"""MLP experts: what they compute, their start, what they refuse."""

import pytest
import torch
from collegium.experts import MLP
from torch import nn
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("gelu", F.gelu),
        ("relu", torch.relu),
        ("silu", F.silu),
        ("swiglu", lambda z: F.silu(z[:, :5]) * z[:, 5:]),
    ],
)
def test_an_expert_is_two_matrices_and_an_activation(activation: str, function: object) -> None:
    block, x = MLP(3, 2, hidden=5, activation=activation, out_dim=4), torch.randn(7, 3)
    y = block(x, torch.tensor([4, 3]))
    wanted = [function(part @ block.up[e]) @ block.down[e] for e, part in enumerate((x[:4], x[4:]))]  # type: ignore[operator]
    torch.testing.assert_close(y, torch.cat(wanted))


def test_weights_start_as_those_of_linear_layers() -> None:
    block, up, down = MLP(64, 20, hidden=256), nn.Linear(64, 256), nn.Linear(256, 64)
    for weight, linear in ((block.up, up), (block.down, down)):
        assert abs(weight.std() / linear.weight.std() - 1) < 0.02
        assert weight.abs().max() <= linear.in_features**-0.5


def test_no_two_experts_start_alike() -> None:
    block = MLP(3, 4, hidden=5)
    assert len({tuple(up.flatten().tolist()) for up in block.up}) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"activation": "tanh"},
            "unknown activation 'tanh': choose one of gelu, relu, silu, identity, swiglu",
        ),
        ({"hidden": 0}, "at least 1"),
        ({"dim": 0}, "at least 1"),
        ({"out_dim": 0}, "at least 1"),
        ({"num_experts": 0}, "at least one expert"),
    ],
)
def test_senseless_sizes_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MLP(**{"dim": 3, "num_experts": 4, "hidden": 5, **options})  # type: ignore[arg-type]
