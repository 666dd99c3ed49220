"""What a router or an expert may know of a token beside its vector."""

from dataclasses import dataclass, fields
from math import prod
from typing import Literal, get_args

import torch
from torch import Size, Tensor

Id = Literal["label", "task", "domain", "position", "segment"]
"""The fields that hold ids, by any of which a router may know a token."""
IDS: tuple[Id, ...] = get_args(Id)


@dataclass(frozen=True, eq=False)
class Context:
    """Named tensors with the leading dims of the layer's input, one entry a token.

    Args:
        mask: bool, True where the token is real. Masked tokens reach no expert.
        segment: int64, which independent group (image, sequence) a token belongs to. Where the layer's input
            has several leading dims, tokens of unlike indices of the first are of unlike groups anyway.
        task, domain, label: int64 ids for conditioned routers.
        position: int64, place in a sequence.
        time: float, a diffusion step or a timestamp.
        affinity: float, with one more dim: how much each token has to do with each token of its own sequence,
            such as attention averaged over heads. A sequence is all of one index of the input's first dim.
        shape: leading dims of the layer's input; filled in by the layer.

    Raises:
        ValueError: the mask is not bool.
    """

    mask: Tensor | None = None
    segment: Tensor | None = None
    task: Tensor | None = None
    domain: Tensor | None = None
    label: Tensor | None = None
    position: Tensor | None = None
    time: Tensor | None = None
    affinity: Tensor | None = None
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.mask.dtype != torch.bool:
            raise ValueError(f"context.mask must be bool, not {self.mask.dtype}: True marks a real token")

    def flatten(self, leading: Size) -> "Context":
        """The same context with the leading dims of every tensor merged into one.

        Raises:
            ValueError: a tensor does not start with the leading dims of the input.
        """
        flat: dict[str, Tensor] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, Tensor):
                continue
            if value.shape[: len(leading)] != leading:
                raise ValueError(
                    f"context.{field.name} has shape {tuple(value.shape)}, but the layer's input "
                    f"has leading dims {tuple(leading)}"
                )
            flat[field.name] = value.reshape(prod(leading), *value.shape[len(leading) :])
        return Context(**flat, shape=tuple(leading))

    def require(self, names: tuple[str, ...], who: str) -> None:
        """Raise a ValueError that says which of the needed fields is absent."""
        for name in names:
            if getattr(self, name) is None:
                raise ValueError(f"{who} needs context.{name}: call the layer with Context({name}=...)")


# so that a program of torch.export takes a Context, is written, and is read again
torch.export.register_dataclass(Context, serialized_type_name="collegium.Context")
torch.serialization.add_safe_globals([Context])
