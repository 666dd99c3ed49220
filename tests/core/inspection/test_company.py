"""Co-selection by hand."""

import torch
from collegium import Routing, inspection
from collegium.routers import AllExperts


def test_co_selection_by_hand() -> None:
    mask = torch.tensor([True, True, True, False, True])
    index = torch.tensor([[0, 1], [1, 0], [1, 2], [3, 2], [0, 3]])
    routing = Routing.from_topk(index, torch.ones(5, 2), 4, mask=mask)
    table = inspection.co_selection(routing)
    assert (4 * table).tolist() == [[3, 2, 0, 1], [2, 3, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]


def test_the_diagonal_is_the_load_in_tokens_and_rows_add_up_to_the_partners() -> None:
    torch.manual_seed(0)
    routing = Routing.from_topk(torch.rand(200, 6).topk(3).indices, torch.ones(200, 3), 6)
    table = inspection.co_selection(routing)
    assert torch.allclose(table.diag(), routing.demand.double() / 200)
    assert torch.allclose(table.sum(1), 3 * table.diag())
    assert torch.equal(table, table.T)


def test_limits() -> None:
    one = Routing.from_topk(torch.tensor([[0], [1], [1], [1]]), torch.ones(4, 1), 3)
    assert inspection.co_selection(one).tolist() == [[0.25, 0, 0], [0, 0.75, 0], [0, 0, 0]]
    assert inspection.co_selection(AllExperts(4, 3)(torch.randn(5, 4))).tolist() == [[1] * 3] * 3
    nobody = Routing.from_topk(
        torch.zeros(2, 1).long(), torch.ones(2, 1), 2, mask=torch.zeros(2, dtype=torch.bool)
    )
    assert inspection.co_selection(nobody).tolist() == [[0, 0], [0, 0]]
