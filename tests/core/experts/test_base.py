"""Every block of experts passes the public checks."""

import pytest
import torch
from collegium import experts
from collegium.testing import check_experts
from torch import Tensor

from tests.core.blocks import EXPERTS, ExpertsFactory


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("factory", EXPERTS.values(), ids=EXPERTS)
def test_every_block_passes_check_experts(factory: ExpertsFactory, seed: int) -> None:
    check_experts(factory, seed=seed)


def test_a_block_that_needs_context_by_row_passes_too() -> None:
    class Timed(experts.Experts):
        needs = ("time", "label")

        def forward(self, x: Tensor, counts: Tensor | int, *, time: Tensor, label: Tensor) -> Tensor:
            return x * (time + label)[:, None]

    check_experts(lambda dim, num_experts: Timed(num_experts))
    blocks = [experts.Copy(1), Timed(2), Timed(1)]
    check_experts(lambda dim, num_experts: experts.ExpertGroups(blocks if num_experts else []))


def test_a_class_may_say_how_many_dims_its_items_have() -> None:
    class Patches(experts.Experts):
        item_ndim = 3

        def forward(self, x: Tensor, counts: Tensor | int, **side: Tensor) -> Tensor:
            return 2 * x

    assert Patches(4).item_ndim == 3
    assert experts.Copy(4).item_ndim == 1
    assert experts.Copy(4, item_ndim=2).item_ndim == 2
    check_experts(lambda dim, num_experts: Patches(num_experts))


def test_items_without_dims_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one dim, not 0"):
        experts.ExpertList([torch.nn.Identity()], item_ndim=0)


def test_parameters_each_shares_equally_by_default() -> None:
    assert experts.MLP(3, 4, hidden=5).parameters_each() == [2 * 3 * 5] * 4
    assert experts.Zero(2).parameters_each() == [0, 0]
