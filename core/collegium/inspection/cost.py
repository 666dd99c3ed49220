"""What a model costs: parameters and multiply-adds, active and total."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from collegium.layer import moe_layers
from collegium.routing import Routing


def parameters(model: nn.Module, routings: Mapping[str, Sequence[Routing]] | None = None) -> tuple[int, int]:
    """(active, total) parameters; active counts of each MoE layer's experts the share that a token uses.

    Args:
        model: any module.
        routings: from ``record``, for routers whose number of experts a token varies. Without it, a layer's
            router is asked for its ``k``, and a router without ``k`` counts with all experts.
    """
    total = sum(p.numel() for p in model.parameters())
    active = float(total)
    for name, layer in moe_layers(model).items():
        held = sum(p.numel() for p in layer.experts.parameters())
        share = _share(layer.router, (routings or {}).get(name, ()))
        active -= held * (1 - share)
    return round(active), total


def _share(router: nn.Module, calls: Sequence[Routing]) -> float:
    tokens = sum(int(r.mask.sum()) if r.mask is not None else r.num_tokens for r in calls)
    if tokens:
        rows = sum(int(r.row_counts().sum()) for r in calls)
        return rows / tokens / calls[0].num_experts
    k, num_experts = getattr(router, "k", None), getattr(router, "num_experts", 1)
    return 1.0 if k is None else k / num_experts


def flops(model: nn.Module, *args: Any, **kwargs: Any) -> int:
    """Floating-point operations of the matrix products in one forward pass, as these inputs are routed."""
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._grouped_mm: _grouped_mm_flops})
    with torch.no_grad(), counter:
        model(*args, **kwargs)
    return int(counter.get_total_flops())


def _grouped_mm_flops(
    a_shape: Sequence[int], b_shape: Sequence[int], *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    """Rows (A, D) times (E, D, H): every row meets one matrix."""
    return 2 * a_shape[0] * a_shape[1] * b_shape[-1]
