"""Does a value read from JSON have the type that a TypedDict declares?"""

import math
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict


def fault(value: Any, kind: Any, where: str) -> str | None:
    """Return what is wrong with `value`, found at `where`, as a `kind`; None where it conforms.

    `kind` is a TypedDict, list, dict, union, plain type or Any. Keys that a TypedDict does not know are
    faults, a bool is no int, and a float is finite.
    """
    origin, parameters = get_origin(kind), get_args(kind)
    if kind is Any:
        return None
    if origin is UnionType:
        faults = [fault(value, option, where) for option in parameters]
        return None if None in faults else faults[0]
    if is_typeddict(kind) and isinstance(value, dict):
        return _record_fault(value, kind, where)
    if origin is list and isinstance(value, list):
        return _first(fault(item, parameters[0], f"{where}[{n}]") for n, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return _first(fault(item, parameters[1], f"{where}.{key}") for key, item in value.items())
    return None if _is_plain(value, kind) else f"{where} has {value!r:.40} where {_word(kind)} belongs"


def _record_fault(value: dict[str, Any], kind: Any, where: str) -> str | None:
    hints = get_type_hints(kind)
    if odd := sorted(kind.__required_keys__ - set(value)):
        return f"{where} lacks the key {odd[0]}"
    if odd := sorted(set(value) - set(hints)):
        return f"{where} has the unknown key {odd[0]}"
    return _first(fault(item, hints[key], f"{where}.{key}") for key, item in value.items())


def _is_plain(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return kind in (str, int, bool, NoneType) and type(value) is kind


def _first(faults: Iterable[str | None]) -> str | None:
    return next((found for found in faults if found is not None), None)


def _word(kind: Any) -> str:
    words = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}
    return words.get(kind, "a list" if get_origin(kind) is list else "an object")
