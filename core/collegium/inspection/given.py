"""What an inspection is given: one routing, or all that ``record`` collected."""

from collections.abc import Mapping, Sequence

from collegium.routing import Routing

Collected = Mapping[str, Sequence[Routing]]
"""Layer -> the routings of its calls."""


def single(routing: Routing, function: str) -> Routing:
    """The routing itself, or a TypeError that says how to take one out of what ``record`` collects."""
    if isinstance(routing, Routing):
        return routing
    raise TypeError(
        f"inspection.{function} wants one Routing, not a {type(routing).__name__}: give one call of one "
        "layer, such as routings[name][0], and slots as slots.as_routing()"
    )


def collected(routings: Collected, function: str) -> Collected:
    """The mapping itself, or a TypeError that says how to make one of a routing."""
    if isinstance(routings, Mapping):
        return routings
    raise TypeError(
        f"inspection.{function} wants what collegium.record collects, not a {type(routings).__name__}: give "
        "layer -> list of routings, such as {'': [routing]}"
    )
