"""Two-layer perceptrons of all experts on sorted rows, as one autograd node.

Never index a stacked weight per expert under autograd: backward would write a zero tensor of the whole stack
for every expert, O(E^2) memory traffic. Legend: A rows, D width, F width after the first product, H after the
activation, O output width, E experts.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from collegium.dispatch.activations import ACTIVATIONS

LOOP_ROWS = 256
"""Rows an expert from which a loop, one expert end to end, beats grouped products: it keeps z in cache."""


def grouped_mlp(x: Tensor, counts: Tensor | int, up: Tensor, down: Tensor, activation: str) -> Tensor:
    """act(x_e @ up_e) @ down_e for the rows x_e of every expert e.

    Args:
        x: (A, D) sorted by expert.
        counts: (E,) rows an expert, or one int for all.
        up: (E, D, F), down: (E, H, O); F = 2H for swiglu, the gate's half first.
        activation: a name in ``ACTIVATIONS``.

    Returns:
        (A, O)
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, up, down = x.to(dtype), up.to(dtype), down.to(dtype)
    if not isinstance(counts, Tensor):
        return _batched(x, counts, up, down, activation)
    y: Tensor = _apply_eagerly(x.contiguous(), up, down, counts, activation)
    return y


def _batched(x: Tensor, rows: int, up: Tensor, down: Tensor, activation: str) -> Tensor:
    hidden = ACTIVATIONS[activation].forward(torch.bmm(x.reshape(up.shape[0], rows, up.shape[1]), up))
    return torch.bmm(hidden, down).flatten(0, 1)


def plain_mlp(x: Tensor, counts: Tensor, up: Tensor, down: Tensor, activation: str) -> Tensor:
    """The same by a loop that autograd follows: the reference, and the path for gradients of gradients."""
    act = ACTIVATIONS[activation].forward
    parts = zip(x.split(counts.tolist()), up.unbind(), down.unbind(), strict=True)
    return torch.cat([act(x_e @ up_e) @ down_e for x_e, up_e, down_e in parts])


class _GroupedMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, down: Tensor, counts: Tensor, activation: str) -> Tensor:
        run = _grouped_forward if _use_grouped_mm(x, up, down) else _loop_forward
        z, y = run(x, up, down, counts, ACTIVATIONS[activation].forward)
        ctx.save_for_backward(x, up, down, counts, z)
        ctx.activation = activation
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, up, down, counts, z = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: z is cut off from the graph, so compute it anew
            y = plain_mlp(x, counts, up, down, ctx.activation)
            wanted = [t for t, needed in zip((x, up, down), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
            grads = [next(found) if needed else None for needed in ctx.needs_input_grad[:3]]
            return (*grads, None, None)
        run = _grouped_backward if _use_grouped_mm(x, up, down) else _loop_backward
        return (*run(grad.contiguous(), x, up, down, counts, z, ctx.activation), None, None)


# the rows of each expert depend on data, and the compiler knows grouped_mm in bfloat16 alone
_apply_eagerly = torch.compiler.disable(_GroupedMLP.apply)


def _use_grouped_mm(x: Tensor, up: Tensor, down: Tensor) -> bool:
    """Whether torch's grouped_mm takes these tensors and is the faster way."""
    if x.shape[0] == 0 or x.shape[0] >= LOOP_ROWS * up.shape[0] or x.device.type not in ("cpu", "cuda"):
        return False
    wide = {torch.float32: 4, torch.bfloat16: 8, torch.float16: 8}.get(x.dtype)
    if x.is_cuda and (x.dtype != torch.bfloat16 or torch.cuda.get_device_capability(x.device) < (8, 0)):
        return False
    return wide is not None and all(size % wide == 0 for size in (*up.shape[1:], *down.shape[1:]))


def _loop_forward(
    x: Tensor, up: Tensor, down: Tensor, counts: Tensor, act: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    z, y = x.new_empty(x.shape[0], up.shape[2]), x.new_empty(x.shape[0], down.shape[2])
    start = 0
    for e, rows in enumerate(counts.tolist()):
        part = slice(start, start + rows)
        torch.mm(x[part], up[e], out=z[part])
        torch.mm(act(z[part]), down[e], out=y[part])
        start += rows
    return z, y


def _loop_backward(
    grad: Tensor, x: Tensor, up: Tensor, down: Tensor, counts: Tensor, z: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    act = ACTIVATIONS[activation]
    gx, gup, gdown = torch.empty_like(x), torch.empty_like(up), torch.empty_like(down)
    start = 0
    for e, rows in enumerate(counts.tolist()):
        part = slice(start, start + rows)
        z_e, grad_e = z[part], grad[part]
        torch.mm(act.forward(z_e).T, grad_e, out=gdown[e])
        gz = act.backward(grad_e @ down[e].T, z_e)
        torch.mm(x[part].T, gz, out=gup[e])
        torch.mm(gz, up[e].T, out=gx[part])
        start += rows
    return gx, gup, gdown


def _grouped_forward(
    x: Tensor, up: Tensor, down: Tensor, counts: Tensor, act: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    ends = counts.cumsum(0).int()
    z = F.grouped_mm(x, up, offs=ends)
    return z, F.grouped_mm(act(z), down, offs=ends)


def _grouped_backward(
    grad: Tensor, x: Tensor, up: Tensor, down: Tensor, counts: Tensor, z: Tensor, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    act = ACTIVATIONS[activation]
    ends = counts.cumsum(0).int()
    gdown = F.grouped_mm(act.forward(z).T, grad, offs=ends)
    gz = act.backward(F.grouped_mm(grad, down.transpose(1, 2), offs=ends), z)
    gup = F.grouped_mm(x.T, gz, offs=ends)
    return F.grouped_mm(gz, up.transpose(1, 2), offs=ends), gup, gdown
