"""A device that knows no float64, as Apple's MPS, played on the CPU."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from collegium import Routing
from torch import Tensor
from torch.utils._pytree import tree_leaves


class WithoutDouble(Tensor):
    """A tensor there: it stays there until it is asked for on the CPU, and cannot be float64."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        found = super().__torch_function__(func, types, args, kwargs or {})
        for value in tree_leaves(found):
            if isinstance(value, cls) and value.dtype == torch.float64:
                raise TypeError("this device knows no float64")
        return found


def there(routing: Routing) -> Routing:
    """The same routing on such a device."""
    moved = {
        field.name: value.as_subclass(WithoutDouble)
        for field in fields(routing)
        if isinstance(value := getattr(routing, field.name), Tensor)
    }
    return replace(routing, **moved)
