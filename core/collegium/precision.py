"""What stays in full precision whatever a model is cast to."""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn


class Float32Buffers(nn.Module):
    """A module whose own float buffers stay float32, or wider, when it is cast to less.

    What moves by small steps, a selection bias or a running mean, would stand still in half precision.

    >>> import torch
    >>> from collegium import routers
    >>> router = routers.TopK(16, 4, bias=True).bfloat16()
    >>> router.gate.weight.dtype, router.bias.dtype
    (torch.bfloat16, torch.float32)
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            cast = self._buffers[name]
            if buffer is None or cast is None or not buffer.is_floating_point():
                continue
            if cast.dtype.itemsize < min(buffer.dtype.itemsize, 4):
                self._buffers[name] = buffer.to(cast.device)
        return self
