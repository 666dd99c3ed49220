"""Two-layer perceptrons of all experts on sorted rows, as one autograd node.

Never index a stacked weight per expert under autograd: backward would write a zero tensor of the whole stack
for every expert, O(E^2) memory traffic. Legend: A rows, D width, F width after the first product, H after the
activation, O output width, E experts.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from collegium.dispatch.activations import ACTIVATIONS, Activation

Inside = tuple[Tensor, list[Tensor], list[Tensor]]

LOOP_HIDDEN = 2**21
LOOP_EACH = 2**17
"""Where a loop, one expert end to end, beats grouped products on a CPU: so many hidden numbers in all, and so
many an expert. Then the hidden rows of one expert stay in cache where those of all do not."""


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
    if not x.is_meta and torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, up, down = x.to(dtype), up.to(dtype), down.to(dtype)
    if not isinstance(counts, Tensor):
        return _batched(x, counts, up, down, activation)
    # the rows of each expert depend on data, and the compiler knows grouped_mm in bfloat16 alone; disabling
    # it here and not at import spares everybody the seconds that loading the compiler takes
    run = torch.compiler.disable(_run) if torch.compiler.is_compiling() else _run
    y: Tensor = run(x.contiguous(), up, down, counts, activation)
    return y


def _batched(x: Tensor, rows: int, up: Tensor, down: Tensor, activation: str) -> Tensor:
    hidden = ACTIVATIONS[activation].forward(torch.bmm(x.reshape(up.shape[0], rows, up.shape[1]), up))
    return torch.bmm(hidden, down).flatten(0, 1)


def plain_mlp(x: Tensor, counts: Tensor, up: Tensor, down: Tensor, activation: str) -> Tensor:
    """The same by a loop that autograd follows: the reference, and the path for gradients of gradients."""
    act = ACTIVATIONS[activation].forward
    parts = zip(x.split(counts.tolist()), up.unbind(), down.unbind(), strict=True)
    return torch.cat([act(x_e @ up_e) @ down_e for x_e, up_e, down_e in parts])


def _run(x: Tensor, up: Tensor, down: Tensor, counts: Tensor, activation: str) -> Tensor:
    if torch.is_grad_enabled():
        y: Tensor = _GroupedMLP.apply(x, up, down, counts, activation)
        return y
    return _forward(x, up, down, counts, activation, keep=False)[0]


class _GroupedMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, down: Tensor, counts: Tensor, activation: str) -> Tensor:
        y, z, hidden = _forward(x, up, down, counts, activation, keep=True)
        ctx.save_for_backward(x, up, down, counts, *z, *hidden)
        ctx.activation = activation
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, up, down, counts, *inside = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the inside is cut off from the graph, so compute it anew
            y = plain_mlp(x, counts, up, down, ctx.activation)
            wanted = [t for t, needed in zip((x, up, down), ctx.needs_input_grad, strict=False) if needed]
            grads = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
            return (*[next(grads) if needed else None for needed in ctx.needs_input_grad[:3]], None, None)
        run = _grouped_backward if _use_grouped_mm(x, up, down) else _loop_backward
        z, hidden = inside[: len(inside) // 2], inside[len(inside) // 2 :]
        found = run(grad.contiguous(), x, up, down, counts, z, hidden, ACTIVATIONS[ctx.activation])
        return (*found, None, None)


def _forward(x: Tensor, up: Tensor, down: Tensor, counts: Tensor, activation: str, keep: bool) -> Inside:
    """The output, and for backward, if kept, what goes into the activation and what comes out."""
    run = _grouped_forward if _use_grouped_mm(x, up, down) else _loop_forward
    return run(x, up, down, counts, ACTIVATIONS[activation], keep)


def _use_grouped_mm(x: Tensor, up: Tensor, down: Tensor) -> bool:
    """Whether torch's grouped_mm takes these tensors and is the faster way."""
    hidden = x.shape[0] * up.shape[2]
    large = hidden >= max(LOOP_HIDDEN, LOOP_EACH * up.shape[0])
    return _takes_grouped_mm(x, up, down) and (x.is_cuda or not large)


def _takes_grouped_mm(x: Tensor, up: Tensor, down: Tensor) -> bool:
    if x.shape[0] == 0 or x.device.type not in ("cpu", "cuda"):
        return False
    if x.is_cuda and (x.dtype != torch.bfloat16 or torch.cuda.get_device_capability(x.device) < (8, 0)):
        return False
    wide = {torch.float32: 4, torch.bfloat16: 8, torch.float16: 8}.get(x.dtype)  # 16 bytes
    return wide is not None and all(size % wide == 0 for size in (*up.shape[1:], *down.shape[1:]))


def _loop_forward(x: Tensor, up: Tensor, down: Tensor, counts: Tensor, act: Activation, keep: bool) -> Inside:
    y, z, hidden, rows = x.new_empty(x.shape[0], down.shape[2]), [], [], counts.tolist()
    room = None if keep else x.new_empty(max(rows), up.shape[2])
    for x_e, y_e, up_e, down_e in zip(x.split(rows), y.split(rows), up.unbind(), down.unbind(), strict=True):
        if room is None:  # kept block by block: in one piece, large ones cost page faults
            z.append(x_e @ up_e)
            hidden.append(act.forward(z[-1]))
            torch.mm(hidden[-1], down_e, out=y_e)
        else:
            torch.mm(act.overwrite(torch.mm(x_e, up_e, out=room[: len(x_e)])), down_e, out=y_e)
    return y, z, hidden


def _loop_backward(
    grad: Tensor,
    x: Tensor,
    up: Tensor,
    down: Tensor,
    counts: Tensor,
    z: list[Tensor],
    hidden: list[Tensor],
    act: Activation,
) -> tuple[Tensor, Tensor, Tensor]:
    rows = counts.tolist()
    gx, gup, gdown = torch.empty_like(x), torch.empty_like(up), torch.empty_like(down)
    room = x.new_empty(max(rows), down.shape[1])
    parts = zip(x.split(rows), grad.split(rows), z, hidden, up.unbind(), down.unbind(), strict=True)
    found = zip(gx.split(rows), gup.unbind(), gdown.unbind(), strict=True)
    for (x_e, grad_e, z_e, hidden_e, up_e, down_e), (gx_e, gup_e, gdown_e) in zip(parts, found, strict=True):
        torch.mm(hidden_e.T, grad_e, out=gdown_e)
        gz_e = act.backward(torch.mm(grad_e, down_e.T, out=room[: len(x_e)]), z_e)
        torch.mm(x_e.T, gz_e, out=gup_e)
        torch.mm(gz_e, up_e.T, out=gx_e)
    return gx, gup, gdown


def _grouped_forward(
    x: Tensor, up: Tensor, down: Tensor, counts: Tensor, act: Activation, keep: bool
) -> Inside:
    ends = counts.cumsum(0).int()
    z = F.grouped_mm(x, up, offs=ends)
    hidden = act.forward(z) if keep else act.overwrite(z)
    return F.grouped_mm(hidden, down, offs=ends), [z], [hidden]


def _grouped_backward(
    grad: Tensor,
    x: Tensor,
    up: Tensor,
    down: Tensor,
    counts: Tensor,
    z: list[Tensor],
    hidden: list[Tensor],
    act: Activation,
) -> tuple[Tensor, Tensor, Tensor]:
    ends = counts.cumsum(0).int()
    gdown = F.grouped_mm(hidden[0].T, grad, offs=ends)
    gz = act.backward(F.grouped_mm(grad, down.transpose(1, 2), offs=ends), z[0])
    gup = F.grouped_mm(x.T, gz, offs=ends)
    return F.grouped_mm(gz, up.transpose(1, 2), offs=ends), gup, gdown
