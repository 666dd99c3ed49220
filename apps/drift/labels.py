"""The names of classes, as they come."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from apps.common.errors import UserError
from apps.drift.schema import as_text, is_missing

UNKNOWN = -1
"""The number of a label that is missing."""


class Labels:
    """Numbers for the labels of a stream, in the order in which they are first seen.

    Args:
        capacity: how many there may be.
        names: those known so far.
        closed: whether a label for which there is no room is as one that is missing.
    """

    def __init__(self, capacity: int, names: Sequence[str] = (), closed: bool = False) -> None:
        if capacity < 2:
            raise UserError(f"classes is {capacity}: make room for at least 2.")
        self.capacity, self.names, self.closed = capacity, list(names), closed

    def encode(self, values: Iterable[Any]) -> Tensor:
        """Labels (n,) as int64, -1 where missing.

        Raises `UserError` where there are more than `capacity`, unless it is closed.
        """
        return torch.tensor([self._number(value) for value in values], dtype=torch.int64)

    def name(self, number: int) -> str:
        """The label of a number; of one that has not come yet, the number in words."""
        return self.names[number] if number < len(self.names) else f"class {number + 1}"

    def _number(self, value: Any) -> int:
        if is_missing(value):
            return UNKNOWN
        name = as_text(value)
        if name not in self.names:
            if len(self.names) == self.capacity:
                if not self.closed:
                    raise self._full(name)
                return UNKNOWN
            self.names.append(name)
        return self.names.index(name)

    def _full(self, name: str) -> UserError:
        return UserError(
            f"the label {name!r} is one more than the {self.capacity} there is room for: raise classes, or "
            "check that the target is a class and no number to be estimated."
        )


def wanted_last(values: Iterable[Any], wanted: str, source: str) -> list[str]:
    """The labels as they come, but the wanted one last. Raises `UserError` where it is none of them."""
    names = list(dict.fromkeys(as_text(value) for value in values if not is_missing(value)))
    if wanted not in names:
        raise UserError(f"{source} has no label {wanted!r}: data.wanted can be one of {', '.join(names)}.")
    return sorted(names, key=wanted.__eq__)
