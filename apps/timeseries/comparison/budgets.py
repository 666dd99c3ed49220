"""What a budget says of one set, and the set's windows by it."""

from collections.abc import Mapping
from typing import Any

from apps.timeseries.data import Data

SIMULATED = "simulated"
"""The name under which the embedded series are compared."""


def budget_for(data: str | None, budget: Mapping[str, Any]) -> dict[str, Any]:
    """The budget with what it says of one set in particular, below `sets`; of `networks` name by name.

    A network that is `like` another one has what is said of that, but for its own.
    """
    own = dict(budget.get("sets", {}).get(data, {}))
    told = {**budget["networks"], **own.get("networks", {})}
    networks = {name: {**told.get(of.get("like"), {}), **of} for name, of in told.items()}
    return {**budget, **own, "networks": networks}


def module_for(name: str | None, budget: Mapping[str, Any], seed: int, **options: Any) -> Data:
    """The data module of one set, with the horizons of the budget."""
    module = Data(
        name=None if name == SIMULATED else name,
        context=budget["context"],
        horizon=max(budget["horizons"]),
        horizons=budget["horizons"],
        max_windows_per_epoch=budget["windows_per_epoch"],
        validation_stride=budget["validation_stride"],
        earlier=budget.get("earlier", 0),
        seed=seed,
        **options,
    )
    module.prepare_data()
    module.setup()
    return module
