"""Brute force: y_t = the sum over assignments a of token t of w_a * expert_a(x_t), one row at a time."""

import torch
from collegium import Routing, experts
from collegium.experts import Experts
from torch import Tensor
from torch.nn import functional as F

ACTIVATIONS = {
    "gelu": lambda z: 0.5 * z * (1 + torch.erf(z / 2**0.5)),
    "relu": lambda z: torch.where(z > 0, z, 0),
    "silu": lambda z: z / (1 + torch.exp(-z)),
    "identity": lambda z: z,
    "swiglu": lambda z: F.silu(z[..., : z.shape[-1] // 2]) * z[..., z.shape[-1] // 2 :],
}


def one_expert(block: Experts, e: int, x: Tensor) -> Tensor:
    """What expert e of a block makes of one item, by its definition."""
    match block:
        case experts.MLP():
            return ACTIVATIONS[block.activation](x @ block.up[e]) @ block.down[e]
        case experts.ExpertList():
            return block.experts[e](x)
        case experts.ExpertGroups():
            for part in block.blocks:
                if e < part.num_experts:
                    return one_expert(part, e, x)
                e -= part.num_experts
            raise IndexError(e)
        case experts.FeatureGate():
            gate = 2 / (1 + torch.exp(-(x @ block.narrow[e] @ block.widen[e])))
            return one_expert(block.block, e, x * gate)
        case experts.NormAct():
            y = one_expert(block.block, e, x)
            if block.norm:
                y = (y - block.mean[e]) / (block.variance[e] + 1e-5).sqrt() * block.scale[e] + block.shift[e]
            return ACTIVATIONS[block.act](y)
        case experts.RowExperts():
            return one_expert(block.block, e, x[block.rows[e]])
        case experts.Zero():
            return torch.zeros_like(x)
        case experts.Copy():
            return x
        case experts.Constant():
            share = torch.exp(x @ block.mix[e])
            return (share[0] * x + share[1] * block.value[e]) / share.sum()
        case _:
            counts = torch.zeros(block.num_experts, dtype=torch.int64)
            counts[e] = 1
            return block(x[None], counts)[0]


def plain_moe(x: Tensor, routing: Routing, block: Experts, out: tuple[int, ...]) -> Tensor:
    """Tokens (T, *item) to (T, *out), as the definition says."""
    y = [x.new_zeros(out) for _ in range(len(x))]
    assignments = zip(routing.token.tolist(), routing.expert.tolist(), routing.weight, strict=True)
    for token, expert, weight in assignments:
        row = one_expert(block, expert, x[token])
        y[token] = y[token] + weight[(..., *[None] * row.ndim)] * row
    return torch.stack(y) if y else x.new_zeros(0, *out)
