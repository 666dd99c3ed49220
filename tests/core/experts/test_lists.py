"""Lists and groups: each expert sees its own rows and no others."""

import pytest
import torch
from collegium import MoE
from collegium.experts import MLP, Constant, Copy, ExpertGroups, ExpertList, Zero
from collegium.routers import TopK
from torch import Tensor, nn


class Spy(nn.Module):
    """Remembers the rows it got."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[float]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(x[:, 0].tolist())
        return x


@pytest.mark.parametrize(
    ("counts", "rows"),
    [(torch.tensor([2, 0, 1]), [[0, 1], [], [2]]), (1, [[0], [1], [2]])],
)
def test_each_module_gets_its_rows_none_if_it_has_none(counts: Tensor | int, rows: list[list[int]]) -> None:
    spies = [Spy() for _ in range(3)]
    y = ExpertList(spies)(torch.arange(3.0)[:, None], counts)
    assert y[:, 0].tolist() == [0, 1, 2]
    assert [spy.rows for spy in spies] == [[own] for own in rows]


def test_modules_may_differ_in_kind() -> None:
    modules = [nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 64), nn.GELU(), nn.Linear(64, 2))]
    block, x = ExpertList(modules), torch.randn(5, 4)
    y = block(x, torch.tensor([3, 2]))
    torch.testing.assert_close(y, torch.cat([modules[0](x[:3]), modules[1](x[3:])]))
    assert block.parameters_each() == [4 * 2 + 2, 4 * 64 + 64 + 64 * 2 + 2]


def test_one_module_may_be_two_experts() -> None:
    linear, x = nn.Linear(4, 4), torch.randn(6, 4)
    y, routing = MoE(TopK(4, 2, k=1), ExpertList([linear, linear]))(x, return_routing=True)
    torch.testing.assert_close(y, routing.dense_weight().sum(1, keepdim=True) * linear(x))


def test_an_expert_without_rows_gets_a_zero_gradient() -> None:
    block = ExpertList([nn.Linear(4, 4), nn.Linear(4, 4)])
    block(torch.randn(3, 4), torch.tensor([0, 3])).sum().backward()
    idle, busy = block.experts
    assert idle.weight.grad is not None
    assert not idle.weight.grad.any()
    assert busy.weight.grad.any()


def test_groups_number_experts_through() -> None:
    mlp, x = MLP(4, 2, hidden=3), torch.randn(7, 4)
    block = ExpertGroups([Copy(1), mlp, Zero(2)])
    assert block.num_experts == 5
    y = block(x, torch.tensor([1, 2, 1, 2, 1]))
    torch.testing.assert_close(y[:1], x[:1])
    torch.testing.assert_close(y[1:4], mlp(x[1:4], torch.tensor([2, 1])))
    assert not y[4:].any()
    assert block.parameters_each() == [0, 24, 24, 0, 0]


def test_groups_may_nest() -> None:
    mlp, x = MLP(4, 2, hidden=3), torch.randn(4, 4)
    nested = ExpertGroups([ExpertGroups([Zero(1), mlp]), Copy(1)])
    y = nested(x, 1)
    torch.testing.assert_close(y, torch.cat([0 * x[:1], mlp(x[1:3], 1), x[3:]]))
    assert nested.parameters_each() == [0, 24, 24, 0]


def test_groups_refuse_other_items_and_nothing() -> None:
    with pytest.raises(ValueError, match="same item_ndim"):
        ExpertGroups([Copy(1), Zero(1, item_ndim=2)])
    with pytest.raises(ValueError, match="at least one expert"):
        ExpertGroups([])
    with pytest.raises(ValueError, match=r"one width, not of \[4, 8\]"):
        ExpertGroups([MLP(4, 2, hidden=3), Copy(1), Constant(8, 1)])
