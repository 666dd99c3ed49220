"""What a model costs: parameters and multiply-adds, active and total."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from collegium.experts import Experts
from collegium.inspection.given import Collected, collected
from collegium.layer import moe_layers
from collegium.routers import Router
from collegium.routing import Routing


def parameters(model: nn.Module, routings: Collected | None = None) -> tuple[int, int]:
    """(active, total) parameters; active counts of each MoE layer's experts those that a mean token uses.

    Of experts that several layers hold in common, the layer counts that uses more of them.

    Args:
        model: any module.
        routings: from ``record``: what each token ran, for routers whose number of experts varies and for
            experts of unequal size. Without it, a layer's router is asked for its ``experts_a_token``, of
            mean size, and counts with all experts where that varies.

    Raises:
        TypeError: routings are not what ``record`` collects, as a single one.
    """
    calls = collected({} if routings is None else routings, "parameters")
    total = sum(p.numel() for p in model.parameters())
    active = float(total)
    used: dict[Experts, list[list[float]]] = {}  # by block: several layers may hold the same
    for name, layer in moe_layers(model).items():
        used.setdefault(layer.experts, []).append(_shares(layer.router, calls.get(name, ())))
    for block, shares in used.items():
        most = [max(each) for each in zip(*shares, strict=True)]
        active -= sum(size * (1 - share) for size, share in zip(block.parameters_each(), most, strict=True))
    return round(active), total


def _shares(router: Router, calls: Sequence[Routing]) -> list[float]:
    """(E) the share of tokens that run each expert."""
    tokens = sum(int(r.mask.sum()) if r.mask is not None else r.num_tokens for r in calls)
    if tokens:
        rows: list[int] = torch.stack([r.row_counts() for r in calls]).sum(0).tolist()
        return [row / tokens for row in rows]
    known = router.experts_a_token
    return [(router.num_experts if known is None else known) / router.num_experts] * router.num_experts


def flops(model: nn.Module, *args: Any, **kwargs: Any) -> int:
    """Floating-point operations of the matrix products in one forward pass, as these inputs are routed.

    The model runs in the mode it is in: in training a router with running moments moves them.
    """
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._grouped_mm: _grouped_mm_flops})
    with torch.no_grad(), counter:  # the counter stumbles over inputs that take gradient
        model(*map(_detached, args), **{name: _detached(value) for name, value in kwargs.items()})
    return int(counter.get_total_flops())


def _detached(value: Any) -> Any:
    """The value, or what a dict, list or tuple holds, cut off from its graph."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {name: _detached(part) for name, part in value.items()}
    return type(value)(map(_detached, value)) if type(value) in (list, tuple) else value


def _grouped_mm_flops(
    a_shape: Sequence[int], b_shape: Sequence[int], *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    """Rows (A, D) times (E, D, H): every row meets one matrix."""
    return 2 * a_shape[0] * a_shape[1] * b_shape[-1]
