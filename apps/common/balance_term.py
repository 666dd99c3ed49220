"""The terms of the balance penalty, found by the names that a configuration gives."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from inspect import Parameter, isclass, signature
from typing import Any, NamedTuple

from collegium import Routing, balance
from torch import Tensor

TERM = (
    "a term is a function of the recorded routings, or a class whose instances are called with them, such as "
    "load_balance or GlobalLoadBalance"
)


class BalanceTerm(NamedTuple):
    """One term of the penalty."""

    name: str
    weight: float
    function: Callable[[Mapping[str, list[Routing]]], Tensor]

    @classmethod
    def of(cls, name: str, value: float | Mapping[str, Any]) -> "BalanceTerm":
        """Find a term by its name.

        Raises:
            ValueError: there is none of that name, what it names is no term, or its arguments do not fit.
        """
        options = dict(value) if isinstance(value, Mapping) else {"weight": value}
        found = _named(name)
        taken = _arguments(name, found)
        if "weight" not in options:
            raise ValueError(f"model.balance gives {name} no weight: add `weight`")
        weight = options.pop("weight")
        _check(name, options, taken)
        term: Any = found(**options) if isclass(found) else partial(found, **options)
        return cls(name.rpartition(".")[2], weight, term)


def _named(name: str) -> Any:
    module, _, last = name.rpartition(".")
    try:
        return getattr(import_module(module) if module else balance, last)
    except (ImportError, AttributeError):
        near = get_close_matches(last, balance.__all__, 1) or ["load_balance"]
        raise ValueError(
            f"model.balance names {name!r}, which does not exist: use a term of collegium.balance "
            f"such as {near[0]}, or a full import path"
        ) from None


def _arguments(name: str, found: Any) -> list[Parameter]:
    """Return what a term can be given beside the routings. Raises ValueError where it is no term."""
    if found is balance.BiasBalance:
        raise ValueError(
            f"model.balance names {name!r}, which is no loss but moves the routers' biases: "
            "call it BiasBalance"
        )
    called = _parameters(found)
    if isclass(found):
        has_call = any("__call__" in vars(base) for base in found.__mro__)
        called = _parameters(found.__call__)[1:] if has_call else []
    if not _takes_routings(found, called):
        raise ValueError(f"model.balance names {name!r}, which is no term: {TERM}")
    return _parameters(found) if isclass(found) else called[1:]


def _takes_routings(found: Any, called: list[Parameter]) -> bool:
    """Whether a call can be given the routings as its first argument; only our own name it `routings`."""
    if not called or called[0].kind in (Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD):
        return False
    if isclass(found) and any(map(_is_required, called[1:])):
        return False
    ours = str(getattr(found, "__module__", "")).partition(".")[0] == "collegium"
    return called[0].name == "routings" or not ours


def _check(name: str, options: Mapping[str, Any], taken: list[Parameter]) -> None:
    """Raise ValueError where a term is given what it does not take, or not given what it needs."""
    known = [p.name for p in taken if not _is_open(p)]
    unknown = sorted(set(options) - set(known))
    if unknown and not any(p.kind is Parameter.VAR_KEYWORD for p in taken):
        raise ValueError(
            f"model.balance gives {name} {unknown[0]!r}, which it does not take: "
            f"it takes {', '.join(known) or 'nothing'}"
        )
    missing = [p.name for p in taken if _is_required(p) and p.name not in options]
    if missing:
        given = ", ".join(f"{key}: ..." for key in ("weight", *missing))
        raise ValueError(
            f"model.balance gives {name} no {' and no '.join(missing)}: write {name}: {{{given}}}"
        )


def _parameters(function: Any) -> list[Parameter]:
    """Return the parameters of a function, or of a class's constructor; none where it is not callable."""
    try:
        return list(signature(function).parameters.values())
    except (TypeError, ValueError):  # no function, or one that is compiled and tells nothing
        return []


def _is_required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty and not _is_open(parameter)


def _is_open(parameter: Parameter) -> bool:
    return parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
