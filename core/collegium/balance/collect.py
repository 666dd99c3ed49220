"""One form for what a balance term is given."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from collegium.routing import Routing

Routings = Routing | Iterable[Routing] | Mapping[str, Sequence[Routing]]


def named(routings: Routings) -> list[tuple[str, Routing]]:
    """(layer name, routing) of every call; the name is empty where none was given.

    Raises:
        ValueError: there is no routing at all.
    """
    if isinstance(routings, Routing):
        return [("", routings)]
    if isinstance(routings, Mapping):
        pairs = [(name, routing) for name, calls in routings.items() for routing in calls]
    else:
        pairs = [("", routing) for routing in routings]
    if not pairs:
        raise ValueError("no routing was recorded: run the model inside `with collegium.record(model)`")
    return pairs


def each(routings: Routings) -> list[Routing]:
    """Every routing, names left out."""
    return [routing for _, routing in named(routings)]


def probs_of(routing: Routing) -> Tensor:
    """(n, E) probabilities of the tokens that take part; for G gates (n * G, E)."""
    return _real(routing, "probs")


def logits_of(routing: Routing) -> Tensor:
    """(n, E) logits of the tokens that take part; for G gates (n * G, E)."""
    return _real(routing, "logits")


def _real(routing: Routing, what: str) -> Tensor:
    value: Tensor | None = getattr(routing, what)
    if value is None:
        raise ValueError(
            f"this router has no {what}, so the balance term has nothing to act on: leave it out"
        )
    real = value if routing.mask is None else value[routing.mask]
    return real if real.ndim == 2 else real.flatten(0, 1)
