"""What is asked of every block of experts."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from collegium.context import Context
from collegium.experts import Experts
from collegium.layer import MoE
from collegium.routers import TopK
from collegium.testing.inputs import (
    copies,
    expect,
    expect_close,
    expect_refusal,
    gradients,
    random_context,
    row_by_row,
    run,
)


def check_experts(
    factory: Callable[[int, int], Experts],
    *,
    dim: int = 8,
    num_experts: int = 4,
    item: tuple[int, ...] | None = None,
    seed: int = 0,
) -> None:
    """Check a block of experts against all that the layer relies on.

    Sorted rows give what each row gives alone, in values and gradients, also where experts have no rows; one
    int for the counts equals a tensor; no rows at all give none; every parameter is part of the graph even so
    (distributed training waits for each); the layer takes items with any leading dims, and dense dispatch
    equals grouped; autocast to bfloat16 stays finite; state dict, deepcopy and pickle bring the block back;
    no experts at all are refused.

    Args:
        factory: (dim, num_experts) -> Experts.
        dim, num_experts: sizes of the trial.
        item: shape of an item; (3, ..., dim) with the block's ``item_ndim`` dims by default.
        seed: of the trial's random numbers; the caller's generator is left alone.

    Raises:
        AssertionError: naming the check and what is broken.
    """
    case = _Case(factory, dim, num_experts, item)
    run(_CHECKS, case, case.block, seed)


@dataclass(frozen=True)
class _Case:
    factory: Callable[[int, int], Experts]
    dim: int
    num_experts: int
    given_item: tuple[int, ...] | None

    @property
    def item(self) -> tuple[int, ...]:
        return self.given_item or (3,) * (self.block().item_ndim - 1) + (self.dim,)

    def block(self) -> Experts:
        return self.factory(self.dim, self.num_experts)

    def rows(self, size: int) -> Tensor:
        return torch.randn(size, *self.item, dtype=torch.float64).requires_grad_()

    def counts(self, *rows: int) -> Tensor:
        """These counts for the first experts, none for the others."""
        return torch.tensor([*rows, *[0] * self.num_experts][: self.num_experts])


def _rows_go_their_own_way(case: _Case) -> None:
    block = case.block().double().eval()
    for counts in (case.counts(3, 0, 5, 2), case.counts(0, 4), case.counts(1, 1, 1, 1)):
        x = case.rows(int(counts.sum()))
        expert = torch.arange(case.num_experts).repeat_interleave(counts)
        context = random_context(block.needs, (len(x),))
        y = _run(block, x, counts, context)
        plain = row_by_row(block, x, expert, context)
        expect_close(y, plain, f"rows {counts.tolist()} must give what each row gives alone")
        weight, inputs = torch.randn_like(y), (x, *block.parameters())
        pairs = zip(
            gradients((y * weight).sum(), *inputs), gradients((plain * weight).sum(), *inputs), strict=True
        )
        for found, wanted in pairs:
            expect_close(
                found, wanted, f"gradients of rows {counts.tolist()} must be those of each row alone"
            )


def _one_int_is_equal_counts(case: _Case) -> None:
    block = case.block().double().eval()
    for rows in (3, 0):
        x = case.rows(rows * case.num_experts)
        context = random_context(block.needs, (len(x),))
        y = _run(block, x, case.counts(*[rows] * case.num_experts), context)
        expect_close(_run(block, x, rows, context), y, f"counts={rows} must equal a tensor of {rows}s")


def _every_parameter_is_in_the_graph(case: _Case) -> None:
    for counts in (case.counts(2), case.counts()):
        block = case.block()
        x = case.rows(int(counts.sum())).float()
        y = _run(block, x, counts, random_context(block.needs, (len(x),)))
        expect(len(y) == len(x), f"{len(x)} rows must give {len(x)} rows")
        learned = {name: p for name, p in block.named_parameters() if p.requires_grad}
        if learned:
            expect(y.requires_grad, "the output must depend on the parameters")
            found = torch.autograd.grad(y.sum(), list(learned.values()), allow_unused=True)
            for name, gradient in zip(learned, found, strict=True):
                expect(
                    gradient is not None, f"{name} must get a gradient, of zeros if its experts have no rows"
                )


def _layer_takes_any_leading_dims(case: _Case) -> None:
    block = case.block().double().eval()
    router = TopK(prod(case.item), case.num_experts, k=1).double().eval()
    x = case.rows(6)
    context = random_context(block.needs, (2, 3))
    y = MoE(router, block)(x.view(2, 3, *case.item), context)
    flat = MoE(router, block)(x, context.flatten(torch.Size((2, 3))))
    expect_close(y.flatten(0, 1), flat, "leading dims (2, 3) must equal 6 tokens")
    dense = MoE(router, block, dispatch="dense")(x, context.flatten(torch.Size((2, 3))))
    expect_close(dense, flat, "dispatch='dense' must equal the default")


def _autocast_stays_finite(case: _Case) -> None:
    block = case.block()
    counts = case.counts(3, 0, 5, 2)
    x = case.rows(int(counts.sum())).float()
    context = random_context(block.needs, (len(x),))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = _run(block, x, counts, context)
    for tensor in (y, *gradients(y.float().sum(), x, *block.parameters())):
        expect(bool(tensor.isfinite().all()), "values and gradients under autocast must be finite")


def _copies_compute_alike(case: _Case) -> None:
    block = case.block().double().eval()
    counts = case.counts(3, 0, 5, 2)
    x = case.rows(int(counts.sum()))
    context = random_context(block.needs, (len(x),))
    y = _run(block, x, counts, context)
    for way, twin in copies(block, case.block().double()).items():
        expect_close(
            _run(twin, x, counts, context), y, f"the block that {way} brings back must compute alike"
        )


def _no_experts_are_refused(case: _Case) -> None:
    expect_refusal(lambda: case.factory(case.dim, 0), "", "num_experts=0 must be refused by a ValueError")


def _run(block: Experts, x: Tensor, counts: Tensor | int, context: Context) -> Tensor:
    y: Tensor = block(x, counts, **{name: getattr(context, name) for name in block.needs})
    return y


_CHECKS = (
    _rows_go_their_own_way,
    _one_int_is_equal_counts,
    _every_parameter_is_in_the_graph,
    _layer_takes_any_leading_dims,
    _autocast_stays_finite,
    _copies_compute_alike,
    _no_experts_are_refused,
)
