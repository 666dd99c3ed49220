"""The MoE layer: a router and its experts, a drop-in for a feed-forward block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, NamedTuple, overload

import torch
from torch import Size, Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from collegium.context import Context
from collegium.dispatch import combine_rows, gather_rows, run_dense, run_slots
from collegium.experts import Experts, teach
from collegium.routers import Router
from collegium.routing import Routing
from collegium.slots import SlotRouting, as_routing

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

    mixed: (..., \*out), what ``forward`` would have said; said: (..., E, \*out), each expert's word; routing:
    of the tokens. Both are zero at masked tokens, but for what a shared expert adds to ``mixed``.
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
        ValueError: router and experts disagree on E, or on D where the block knows its ``dim``, or dense
            dispatch is asked of another combiner; at a call, tokens of another width than the router's, a
            context that the router or the experts need is absent or has other leading dims, or a router of
            slots meets a combiner or experts that know single tokens.
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
        width = experts.dim or router.dim
        fits = width == router.dim if experts.item_ndim == 1 else router.dim % width == 0
        if not fits:
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
        tokens, flat, leading = self._flat(x, context)
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
        only then sees the token's label. Masked tokens are neither asked about nor taught.

        Args:
            x: (..., \*item), the earliest token first.
            y: (..., \*label).
            context: of the tokens, as in ``forward``.
            lessons: (..., E), how much each token counts for each expert; 1 by default, 0 teaches nothing.
                For experts of ``OnlineExperts``; others learn by the gradient of what is made of their word.

        Raises:
            ValueError: what ``forward`` refuses; labels or lessons of other leading dims than x; a router of
                slots or of several gates, or a combiner other than the weighted sum.
        """
        tokens, flat, leading = self._flat(x, context)
        lessons = x.new_ones(*leading, self.experts.num_experts) if lessons is None else lessons
        for name, given in (("y", y), ("lessons", lessons)):
            if given.shape[: len(leading)] != leading:
                raise ValueError(
                    f"learn wants {name} for each token: it is {tuple(given.shape)}, and x has leading dims "
                    f"{tuple(leading)}"
                )
        routing: AnyRouting = self.router(tokens.flatten(1), flat)
        if not isinstance(routing, Routing) or routing.weight.ndim > 1:
            raise ValueError(
                f"{type(self.router).__name__} gives a token no weight for each expert to mix by"
            )
        if not isinstance(self.combiner, WeightedSum):
            raise ValueError("learn adds outputs up by weight: leave combiner out")
        for sink in self._sinks:
            sink.append(replace(routing, context=flat))
        weight = lessons.reshape(-1, self.experts.num_experts)
        dense = replace(Routing.dense(weight, mask=flat.mask), context=flat)
        labels = y.reshape(len(tokens), *y.shape[len(leading) :])
        said = dense.stack(teach(self.experts, tokens, labels, dense))
        mixed = torch.einsum("te,te...->t...", routing.dense_weight().to(said.dtype), said)
        if self.shared is not None:
            mixed = mixed + self.shared(tokens)
        return Lesson(mixed.view(*leading, *mixed.shape[1:]), said.view(*leading, *said.shape[1:]), routing)

    def _flat(self, x: Tensor, context: Context | None) -> tuple[Tensor, Context, Size]:
        """Tokens (T, \\*item), masked ones blank, their context, and the leading dims of x."""
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
        return tokens if flat.mask is None else _blank(tokens, flat.mask), flat, leading

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
    modules, names = dict(model.named_modules()), {"": ""}
    for path in modules:
        above, _, part = path.rpartition(".")
        names[path] = names[above] if _wraps(modules[above], part) else f"{names[above]}.{part}".strip(".")
    return {names[path]: layer for path, layer in modules.items() if isinstance(layer, MoE)}


def _wraps(module: nn.Module, part: str) -> bool:
    """Whether a module holds under this name what it wraps."""
    if part == "module":  # a name that any model may use
        return isinstance(module, DataParallel | DistributedDataParallel)
    return part in ("_orig_mod", "_checkpoint_wrapped_module")
