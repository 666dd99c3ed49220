"""Tokens mixed into slots, experts on the slots, slots mixed into tokens.

Legend: B segments of at most L tokens, E experts, S slots.
"""

from math import prod

import torch
from torch import Tensor, nn

from collegium.slots import SlotRouting


def run_slots(x: Tensor, routing: SlotRouting, experts: nn.Module) -> Tensor:
    """Tokens (T, \\*item) to (T, \\*out). Static shapes where the segments are even."""
    segments, (E, S) = routing.segments, routing.into.shape[1:]
    real = segments.real[:, :, None, None]
    into, out_of = (segments.lay_out(share).where(real, 0.0) for share in (routing.into, routing.out_of))
    tokens = segments.lay_out(x.flatten(1))
    slots = torch.einsum("bles,bld->ebsd", into.to(x.dtype), tokens)
    B = slots.shape[1]
    y = experts(slots.reshape(E * B * S, *x.shape[1:]), B * S)
    mixed = torch.einsum("bles,ebso->blo", out_of.to(y.dtype), y.reshape(E, B, S, prod(y.shape[1:])))
    return segments.take_back(mixed).view(len(x), *y.shape[1:])
