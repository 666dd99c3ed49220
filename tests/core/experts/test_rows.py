"""RowExperts: each expert reads its own row."""

import pytest
import torch
from collegium.experts import MLP, Constant, ExpertList, RowExperts
from torch import nn

from tests.core.reference import one_expert

READ = [2, 0, 0, 1]


@pytest.mark.parametrize("counts", [[3, 0, 2, 1], [0, 0, 0, 0], [0, 5, 0, 0]])
def test_each_expert_reads_its_own_row(counts: list[int]) -> None:
    block = MLP(3, 4, hidden=5, out_dim=2).double()
    x = torch.randn(sum(counts), 3, 3).double()
    y = RowExperts(block, READ)(x, torch.tensor(counts))
    assert y.shape == (sum(counts), 2)
    experts = [e for e in range(4) for _ in range(counts[e])]
    for item, e, found in zip(x, experts, y, strict=True):
        torch.testing.assert_close(found, one_expert(block, e, item[READ[e]]))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_one_int_is_equal_counts(rows: int) -> None:
    block = RowExperts(MLP(3, 4, hidden=5), READ)
    x = torch.randn(4 * rows, 3, 3)
    torch.testing.assert_close(block(x, rows), block(x, torch.tensor([rows] * 4)))


def test_rows_that_no_expert_reads_do_not_matter() -> None:
    block, x = RowExperts(MLP(3, 2, hidden=5), [2, 0]), torch.randn(4, 3, 3, requires_grad=True)
    block(x, 2).square().sum().backward()
    assert x.grad.any(2).tolist() == [[False, False, True]] * 2 + [[True, False, False]] * 2


def test_it_has_the_parameters_of_its_block() -> None:
    block = Constant(3, 4)
    assert RowExperts(block, READ).parameters_each() == block.parameters_each()
    assert RowExperts(block, READ).item_ndim == 2


@pytest.mark.parametrize("read", [[], [0, 1, 2], [0, 1, 2, -1]])
def test_other_than_one_row_an_expert_is_refused(read: list[int]) -> None:
    with pytest.raises(ValueError, match=r"RowExperts wants a row for each of 4 experts of flat items$"):
        RowExperts(MLP(3, 4, hidden=5), read)


def test_a_block_of_other_items_is_refused() -> None:
    block = ExpertList([nn.Linear(3, 3)], item_ndim=2)
    with pytest.raises(ValueError, match=r"RowExperts wants a row for each of 1 experts of flat items$"):
        RowExperts(block, [0])
