"""What a model refuses when it is built: blocks that need what it does not give, routers that look ahead."""

from collections.abc import Iterable

from torch import nn

from collegium.layer import MoE
from collegium.routers import Router


def check_needs(model: nn.Module, given: Iterable[str]) -> None:
    """Refuse routers and experts that need a Context field which ``model`` never fills; models call this.

    Args:
        model: holds MoE layers.
        given: names of the Context fields with which the model calls them.

    Raises:
        ValueError: naming the layer, the block and the field.
    """
    given = set(given)
    for name, module in _inside_out(model):
        for field in () if isinstance(module, MoE) else getattr(module, "needs", ()):
            if field not in given:
                known = ", ".join(sorted(given)) or "none"
                raise ValueError(
                    f"{name or 'the model'}: {type(module).__name__} needs context.{field}, which this model "
                    f"does not give (it gives {known}): choose another"
                )


def check_causal(model: nn.Module) -> None:
    """Refuse routers that let a token's experts depend on later tokens; autoregressive models call this.

    Raises:
        ValueError: naming the layer, its router and what to use instead.
    """
    for name, module in _inside_out(model):
        if isinstance(module, Router) and not module.causal:
            raise ValueError(
                f"{name or 'the model'}: {type(module).__name__} is not causal (a token's experts depend on "
                "other tokens of the batch), so an autoregressive model cannot use it: choose one that is, "
                "such as TopK without a capacity_factor"
            )


def _inside_out(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module by name, what stands inside another before it: a wrapper has its faults from within."""
    return list(reversed(list(model.named_modules())))
