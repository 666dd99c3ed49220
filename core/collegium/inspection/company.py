"""Which experts are chosen together."""

from torch import Tensor

from collegium.inspection.given import single
from collegium.routing import Routing


def co_selection(routing: Routing) -> Tensor:
    """(E, E) float64 share of the tokens that go to both experts; on the diagonal, to the expert.

    Symmetric. With one expert a token all is zero off the diagonal, and where every token runs every expert
    all is one. Masked tokens have no share; dropped assignments have none either.

    Raises:
        TypeError: not one routing, as all that ``record`` collects.
    """
    routing = single(routing, "co_selection")
    tokens = routing.num_tokens if routing.mask is None else int(routing.mask.sum())
    chosen = routing.selected().float()
    return (chosen.T @ chosen).cpu().double() / max(tokens, 1)
