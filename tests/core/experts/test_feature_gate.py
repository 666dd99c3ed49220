"""FeatureGate: HoME's low-rank gate on an expert's features."""

import pytest
import torch
from collegium import MoE
from collegium.experts import MLP, FeatureGate, RowExperts
from collegium.routers import AllExperts

D, E = 4, 3


def test_it_is_the_identity_at_the_start_and_learns_to_be_another() -> None:
    block = MLP(D, E, hidden=6)
    gated, x = FeatureGate(block, D, rank=2), torch.randn(9, D)
    assert torch.equal(gated(x, 3), block(x, 3))
    gated(x, 3).square().sum().backward()
    assert gated.widen.grad is not None
    assert gated.widen.grad.flatten(1).any(1).all()


def test_it_turns_features_up_and_down_for_one_expert_alone() -> None:
    block = MLP(D, E, hidden=6)
    gated = FeatureGate(block, D, rank=1)
    with torch.no_grad():
        gated.narrow[1] = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
        gated.widen[1] = torch.tensor([[50.0, -50.0, 0.0, 0.0]])
    x = torch.tensor([[2.0, 3.0, 4.0, 5.0]]).expand(3, D)
    scaled = x.clone()
    scaled[1] = torch.tensor([4.0, 0.0, 4.0, 5.0])  # the first feature doubled, the second gone
    torch.testing.assert_close(gated(x, 1), block(scaled, 1))


def test_it_fits_a_layer() -> None:
    layer = MoE(AllExperts(D, E), FeatureGate(MLP(D, E, hidden=6), D))
    assert layer(torch.randn(2, 5, D)).shape == (2, 5, D)


def test_its_costs_are_told() -> None:
    block = MLP(D, E, hidden=6)
    assert FeatureGate(block, D, rank=2).parameters_each() == [n + 2 * 2 * D for n in block.parameters_each()]


def test_experts_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="FeatureGate wants"):
        FeatureGate(RowExperts(MLP(D, E, hidden=6), [0] * E), D)
    with pytest.raises(ValueError, match="FeatureGate wants"):
        FeatureGate(MLP(D, E, hidden=6), D, rank=0)
