"""Gather and combine: against index arithmetic, and their gradients numerically."""

from typing import Any

import pytest
import torch
from collegium import Routing
from collegium.dispatch import combine_rows, gather_rows
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.core.blocks import doubles

T, E = 4, 3


def routing(kind: str, weight: Tensor) -> Routing:
    """A routing of T tokens whose weights are taken from (T, E) ``weight``."""
    match kind:
        case "regular":  # every token two experts: with positions
            index = torch.tensor([[2, 0], [2, 1], [0, 1], [1, 2]])
            return Routing.from_topk(index, weight.gather(1, index), E)
        case "single":
            index = torch.tensor([[2], [0], [2], [1]])
            return Routing.from_topk(index, weight.gather(1, index), E)
        case "dense":
            return Routing.dense(weight)
        case "ragged":  # 0, 1, 2 and 3 experts: without
            return Routing.from_selection(torch.ones(T, E).tril(-1).bool(), weight)
        case "dropped":
            return routing("regular", weight).with_capacity(1)
        case "masked":
            return Routing.dense(weight, mask=torch.tensor([True, False, True, True]))
        case _:
            raise ValueError(kind)


KINDS = ["regular", "single", "dense", "ragged", "dropped", "masked"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("item", [(), (5,), (2, 3)])
def test_rows_are_the_tokens_and_outputs_the_weighted_sums(kind: str, item: tuple[int, ...]) -> None:
    x, plan = torch.randn(T, *item), routing(kind, torch.rand(T, E))
    rows = gather_rows(x, plan)
    assert torch.equal(rows, x[plan.token])
    wanted = torch.zeros(T, *item)
    for a, token in enumerate(plan.token.tolist()):
        wanted[token] += plan.weight[a] * rows[a]
    torch.testing.assert_close(combine_rows(rows, plan), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_gather_has_the_right_gradients(kind: str) -> None:
    plan, x = routing(kind, torch.rand(T, E)), doubles(T, 2)
    assert gradcheck(lambda x: gather_rows(x, plan), x)
    assert gradgradcheck(lambda x: gather_rows(x, plan).square(), x)


@pytest.mark.parametrize("kind", KINDS)
def test_combine_has_the_right_gradients(kind: str) -> None:
    weight = torch.rand(T, E, dtype=torch.float64).requires_grad_()
    y = doubles(routing(kind, weight).token.numel(), 2)

    def combine(y: Tensor, weight: Tensor) -> Tensor:
        return combine_rows(y, routing(kind, weight))

    assert gradcheck(combine, (y, weight))
    assert gradgradcheck(combine, (y, weight))


def gated(kind: str, weight: Tensor) -> Routing:
    """A routing whose experts are read by G gates, weighted by (T, E, G)."""
    if kind == "ragged":
        return Routing.from_selection(torch.ones(T, E).tril(-1).bool(), weight)
    return Routing.dense(weight, mask=torch.tensor([True, False, True, True]) if kind == "masked" else None)


@pytest.mark.parametrize("kind", ["dense", "masked", "ragged"])
@pytest.mark.parametrize("out", [(), (5,), (2, 3)])
def test_each_gate_has_its_own_weighted_sum(kind: str, out: tuple[int, ...]) -> None:
    plan = gated(kind, torch.rand(T, E, 2))
    rows = torch.randn(plan.token.numel(), *out)
    wanted = torch.zeros(T, 2, *out)
    for a, token in enumerate(plan.token.tolist()):
        for g in range(2):
            wanted[token, g] += plan.weight[a, g] * rows[a]
    torch.testing.assert_close(combine_rows(rows, plan), wanted)
    assert gradcheck(
        lambda y, weight: combine_rows(y, gated(kind, weight)),
        (rows.double().requires_grad_(), doubles(T, E, 2)),
    )


def test_gates_over_all_experts_need_no_row_of_their_own_for_each_assignment() -> None:
    class Largest(TorchDispatchMode):
        """Remembers the size of the largest tensor that was made."""

        numel = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **kwargs or {})
            for value in tree_leaves(found):
                self.numel = max(self.numel, value.numel() if isinstance(value, Tensor) else 0)
            return found

    plan, rows = Routing.dense(torch.rand(40, 8, 3)), torch.randn(320, 16)
    with torch.no_grad(), Largest() as mode:
        combine_rows(rows, plan)
    assert mode.numel <= rows.numel()  # and not three times that


def test_combine_does_not_write_into_its_input() -> None:
    y, plan = torch.randn(8, 3), routing("regular", torch.rand(T, E))
    before = y.clone()
    combine_rows(y, plan)
    assert torch.equal(y, before)


@pytest.mark.parametrize("item", [(), (5,), (2, 3)])
def test_no_rows_give_zeros(item: tuple[int, ...]) -> None:
    nobody = Routing.from_selection(torch.zeros(T, E, dtype=torch.bool), torch.zeros(T, E))
    y = combine_rows(torch.zeros(0, *item), nobody)
    assert y.shape == (T, *item)
    assert not y.any()


def test_weights_take_the_precision_of_the_rows() -> None:
    plan = routing("regular", torch.rand(T, E))
    assert combine_rows(torch.randn(8, 3).bfloat16(), plan).dtype == torch.bfloat16
