"""The MoE layer: a router and its experts, a drop-in for a feed-forward block."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor, nn

from collegium.context import Context
from collegium.dispatch import combine_rows, gather_rows, run_dense, run_slots
from collegium.experts import Experts, teach
from collegium.routers import Router
from collegium.routing import Routing
from collegium.slots import SlotRouting, as_routing

WRAPPERS = ("module", "_orig_mod", "_checkpoint_wrapped_module")
"""Names by which DDP, torch.compile and the checkpoint wrapper hold the module that they wrap."""

Combiner = Callable[[Tensor, Routing, Tensor], Tensor]
AnyRouting = Routing | SlotRouting


class WeightedSum(nn.Module):
    """y_t = sum of w_a * y_a over the assignments a of token t."""

    def forward(self, y: Tensor, routing: Routing, x: Tensor) -> Tensor:
        """Rows (A, \\*out) to tokens (T, \\*out)."""
        return combine_rows(y, routing)


class Stack(nn.Module):
    """Every expert's output beside the others, unweighted, for models that fuse or judge them afterwards.

    Zeros where a router did not send a token to an expert; ``AllExperts`` sends every token to every expert.
    """

    def forward(self, y: Tensor, routing: Routing, x: Tensor) -> Tensor:
        """Rows (A, \\*out) to (T, E, \\*out)."""
        return routing.stack(y)


class Lesson(NamedTuple):
    r"""What ``MoE.learn`` found before it saw the labels.

    mixed: (T, \*out), the experts' word by the router's weight; said: (T, E, \*out), each expert's; routing:
    of the tokens.
    """

    mixed: Tensor
    said: Tensor
    routing: Routing


class MoE(nn.Module):
    """Router + experts (+ shared expert).

    Args:
        router: who goes where.
        experts: what is computed.
        shared: a module (T, \\*item) -> (T, \\*out) added for every token.
        combiner: (y (A, \\*out), routing, x (T, \\*item)) -> (T, \\*out); weighted sum by default.
        dispatch: "auto" runs only the chosen experts; "dense" runs all on all tokens, with static shapes, for
            export, compilation and as a reference.

    Shapes:
        x (..., \\*item) -> (..., \\*out), any leading dims: all that comes before the item is a token. The
        router sees items flattened to (T, D). ``context`` has the same leading dims; tokens that its mask
        leaves out count as zeros. A router of G gates gives (..., G, \\*out), and ``shared`` is added to
        each.

    Raises:
        TypeError: the first is no router, or the second no block of experts.
        ValueError: router and experts disagree on E or D, or dense dispatch is asked of another combiner;
            at a call, tokens of another width than the router's, a context that the router or the experts
            need is absent or has other leading dims, or a router of slots meets a combiner or experts that
            know single tokens.
        RouteError: the router's ``route`` returns no routing.

    >>> import torch
    >>> from collegium import experts, routers
    >>> layer = MoE(routers.TopK(16, 4, k=2), experts.MLP(16, 4, hidden=32))
    >>> y, routing = layer(torch.randn(3, 5, 16), return_routing=True)
    >>> y.shape, routing.token.shape
    (torch.Size([3, 5, 16]), torch.Size([30]))
    """

    def __init__(
        self,
        router: Router,
        experts: Experts,
        shared: nn.Module | None = None,
        combiner: nn.Module | None = None,
        dispatch: Literal["auto", "dense"] = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(router, Router) or not isinstance(experts, Experts):
            given = f"{type(router).__name__} and {type(experts).__name__}"
            raise TypeError(f"MoE wants a router and then experts, not {given}")
        width = getattr(experts, "dim", router.dim) if experts.item_ndim == 1 else router.dim
        if width != router.dim:
            raise ValueError(f"the router reads tokens of width {router.dim}, the experts of width {width}")
        if router.num_experts != experts.num_experts:
            raise ValueError(
                f"the router chooses among {router.num_experts} experts, the block has {experts.num_experts}"
            )
        if dispatch not in ("auto", "dense"):
            raise ValueError(f"unknown dispatch {dispatch!r}: choose 'auto' or 'dense'")
        if dispatch == "dense" and combiner is not None:
            raise ValueError("dense dispatch adds outputs up by weight: leave combiner out")
        self.router = router
        self.experts = experts
        self.shared = shared
        self.combiner = combiner or WeightedSum()
        self.dispatch = dispatch
        self._sinks: list[list[Routing]] = []

    @overload
    def forward(
        self,
        x: Tensor,
        context: Context | None = ...,
        previous: AnyRouting | None = ...,
        *,
        return_routing: Literal[False] = ...,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        context: Context | None = ...,
        previous: AnyRouting | None = ...,
        *,
        return_routing: Literal[True],
    ) -> tuple[Tensor, AnyRouting]: ...

    def forward(
        self,
        x: Tensor,
        context: Context | None = None,
        previous: AnyRouting | None = None,
        *,
        return_routing: bool = False,
    ) -> Tensor | tuple[Tensor, AnyRouting]:
        """Run the layer; ``previous`` is the routing of the layer before, for routers that look back."""
        leading = x.shape[: x.ndim - self.experts.item_ndim]
        item = x.shape[len(leading) :]
        if item.numel() != self.router.dim:
            raise ValueError(
                f"{type(self.router).__name__} expects tokens of width {self.router.dim}, but the layer was "
                f"given {item.numel()} (x is {tuple(x.shape)}): give both one width"
            )
        tokens = x.reshape(-1, *item)
        flat = Context(shape=tuple(leading)) if context is None else context.flatten(leading)
        flat.require(self.experts.needs, type(self.experts).__name__)
        if flat.mask is not None:
            tokens = _blank(tokens, flat.mask)
        routing: AnyRouting = self.router(tokens.flatten(1), flat, previous)
        if self._sinks or return_routing:
            routing = replace(routing, context=flat)
        for sink in self._sinks:
            sink.append(as_routing(routing))
        y = (
            self._mix(tokens, routing)
            if isinstance(routing, SlotRouting)
            else self._run(tokens, routing, flat)
        )
        if self.shared is not None:
            gated = isinstance(routing, Routing) and routing.weight.ndim > 1
            y = y + (self.shared(tokens)[:, None] if gated else self.shared(tokens))
        y = y.view(*leading, *y.shape[1:])
        return (y, routing) if return_routing else y

    def learn(
        self, x: Tensor, y: Tensor, context: Context | None = None, lessons: Tensor | None = None
    ) -> Lesson:
        r"""Test, then train, on a stretch of a stream: every expert says what it thinks of every token, and
        only then sees the token's label.

        Args:
            x: (T, \*item), the earliest token first.
            y: (T, \*label).
            context: of the tokens, as in ``forward``.
            lessons: (T, E), how much each token counts for each expert; 1 by default, 0 teaches nothing.
                For experts of ``OnlineExperts``; others learn by the gradient of what is made of their word.

        Raises:
            ValueError: a router of slots or of several gates, or a combiner other than the weighted sum.
        """
        flat = Context(shape=(len(x),)) if context is None else context.flatten(x.shape[:1])
        routing: AnyRouting = self.router(x.flatten(1), flat)
        if not isinstance(routing, Routing) or routing.weight.ndim > 1:
            raise ValueError(
                f"{type(self.router).__name__} gives a token no weight for each expert to mix by"
            )
        if not isinstance(self.combiner, WeightedSum):
            raise ValueError("learn adds outputs up by weight: leave combiner out")
        for sink in self._sinks:
            sink.append(replace(routing, context=flat))
        lessons = x.new_ones(len(x), self.experts.num_experts) if lessons is None else lessons
        dense = Routing.dense(lessons)
        said = dense.stack(teach(self.experts, x, y, dense))
        mixed = torch.einsum("te,te...->t...", routing.dense_weight().to(said.dtype), said)
        return Lesson(mixed, said, routing)

    def _mix(self, tokens: Tensor, routing: SlotRouting) -> Tensor:
        if self.experts.needs or not isinstance(self.combiner, WeightedSum):
            raise ValueError(
                f"{type(self.router).__name__} mixes tokens into slots, so experts cannot have a token's "
                "context nor a combiner its rows: use another router"
            )
        return run_slots(tokens, routing, self.experts)

    def _run(self, tokens: Tensor, routing: Routing, context: Context) -> Tensor:
        side = {name: getattr(context, name) for name in self.experts.needs}
        if context.mask is not None:
            side = {name: _blank(value, context.mask) for name, value in side.items()}
        if self.dispatch == "dense":
            return run_dense(tokens, routing, self.experts, side)
        by_row = {name: value[routing.token] for name, value in side.items()}
        rows = self.experts(gather_rows(tokens, routing), routing.counts, **by_row)
        y: Tensor = self.combiner(rows, routing, tokens)
        return y


def _blank(value: Tensor, mask: Tensor) -> Tensor:
    """Zero at masked tokens: padding may hold anything, and 0 * NaN is NaN."""
    return value.where(mask.view(-1, *[1] * (value.ndim - 1)), 0)


@contextmanager
def record(model: nn.Module) -> Iterator[dict[str, list[Routing]]]:
    """Collect every routing of every call of every MoE layer of ``model``, as name -> list.

    Names are those of ``moe_layers``; slots are collected as assignments. Nothing is kept on the model
    afterwards. Under activation checkpointing use the non-reentrant form and run backward outside.

    >>> import torch
    >>> from collegium import balance, experts, routers
    >>> model = MoE(routers.TopK(16, 4, k=2), experts.MLP(16, 4, hidden=32))
    >>> with record(model) as routings:
    ...     loss = model(torch.randn(10, 16)).square().mean() + 0.01 * balance.load_balance(routings)
    >>> {name: len(calls) for name, calls in routings.items()}
    {'': 1}
    """
    layers = moe_layers(model)
    routings: dict[str, list[Routing]] = {name: [] for name in layers}
    for name, layer in layers.items():
        layer._sinks.append(routings[name])
    try:
        yield routings
    finally:
        for name, layer in layers.items():
            layer._sinks = [sink for sink in layer._sinks if sink is not routings[name]]


def moe_layers(model: nn.Module) -> dict[str, MoE]:
    """Every MoE layer by its name in ``model``, as if no DDP, torch.compile or checkpointing were there."""
    return {
        ".".join(part for part in name.split(".") if part not in WRAPPERS): layer
        for name, layer in model.named_modules()
        if isinstance(layer, MoE)
    }


def _inside_out(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module by name, what stands inside another before it: a wrapper has its faults from within."""
    return list(reversed(list(model.named_modules())))


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
