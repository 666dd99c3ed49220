"""Zero, copy and constant experts."""

import torch
from collegium import MoE
from collegium.experts import MLP, Constant, Copy, ExpertGroups, Zero
from collegium.routers import TopK


def test_a_zero_expert_adds_nothing() -> None:
    """A layer with zero experts equals one in which their assignments are struck out."""
    block, x = MLP(4, 3, hidden=5), torch.randn(50, 4)
    layer = MoE(TopK(4, 5, k=2), ExpertGroups([block, Zero(2)]))
    y, routing = layer(x, return_routing=True)
    weights = routing.dense_weight()
    alone = torch.stack([block(x, torch.eye(3, dtype=torch.int64)[e] * 50) for e in range(3)], 1)
    torch.testing.assert_close(y, (weights[:, :3, None] * alone).sum(1))
    skipped = (weights[:, :3] == 0).all(1)
    assert skipped.any()
    assert not y[skipped].any()


def test_copy_gives_the_token_scaled_by_its_weight() -> None:
    layer, x = MoE(TopK(4, 3, k=1), Copy(3)), torch.randn(9, 4)
    y, routing = layer(x, return_routing=True)
    torch.testing.assert_close(y, routing.probs.amax(1, keepdim=True) * x)


def test_constant_blends_the_token_with_its_vector() -> None:
    block, x = Constant(4, 2), torch.randn(5, 4)
    y = block(x, torch.tensor([2, 3]))
    for row, e in enumerate([0, 0, 1, 1, 1]):
        a, b = (x[row] @ block.mix[e]).softmax(0)
        torch.testing.assert_close(y[row], a * x[row] + b * block.value[e])


def test_they_cost_nothing_or_next_to_it() -> None:
    assert not list(Zero(3).parameters())
    assert not list(Copy(3).parameters())
    assert Constant(4, 2).parameters_each() == [4 + 8, 4 + 8]
