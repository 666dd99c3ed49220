"""What is asked of every router."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from collegium.context import Context
from collegium.experts import MLP
from collegium.layer import MoE
from collegium.routers import Router
from collegium.routing import Routing
from collegium.slots import SlotRouting, as_routing
from collegium.testing.inputs import (
    copies,
    crop,
    expect,
    expect_close,
    expect_refusal,
    gradients,
    random_context,
    row_by_row,
    run,
    take,
)
from collegium.testing.routing import check_routing


def check_router(
    factory: Callable[..., Router],
    *,
    dim: int = 8,
    num_experts: int = 4,
    tokens: int = 24,
    shows_leak: bool = True,
    seed: int = 0,
) -> None:
    """Check a router against all that the layer, the balance terms and the models rely on.

    Its routings are whole (``check_routing``), in training and evaluation, for empty input too; scores stay
    float32 under half precision; evaluation repeats itself; ``causal`` is told truly, both ways; masking a
    token equals leaving it out; state dict, deepcopy and pickle bring the router back; what is learned gets
    gradient, also at ``k=1`` where the factory takes ``k``; bad sizes and absent context are refused in one
    sentence; the layer equals a plain loop over assignments, or over slots, and gives no tokens for none; NaN
    in padding stays there.

    Args:
        factory: (dim, num_experts) -> Router, such as the class itself or a functools.partial of it.
        dim, num_experts, tokens: sizes of the trial.
        shows_leak: a router with ``causal = False`` has to show an input where later tokens or other
            sequences matter, in training or evaluation. Say False for one whose docstring tells why no random
            input does.
        seed: of the trial's random numbers; the caller's generator is left alone.

    Raises:
        AssertionError: naming the check and what is broken.
    """
    case = _Case(factory, dim, num_experts, tokens, shows_leak)
    run(_CHECKS, case, case.router, seed)


@dataclass(frozen=True)
class _Case:
    factory: Callable[..., Router]
    dim: int
    num_experts: int
    tokens: int
    shows_leak: bool

    def router(self, **options: Any) -> Router:
        return self.factory(self.dim, self.num_experts, **options)

    def input(self, router: Router, tokens: int | None = None) -> tuple[Tensor, Context]:
        T = self.tokens if tokens is None else tokens
        return torch.randn(T, self.dim), random_context(router.needs, (T,))

    def in_double(self) -> tuple[Router, Tensor, Context]:
        """A router in evaluation and its input, in float64, where rounding decides no tie."""
        router = self.router().double().eval()
        x, context = self.input(router)
        return router, x.double(), context

    def half(self) -> Tensor:
        return torch.randperm(self.tokens)[: self.tokens // 2]


def _routing_is_whole(case: _Case) -> None:
    for training in (True, False):
        for tokens in (case.tokens, 1, 0):
            router = case.router().train(training)
            x, context = case.input(router, tokens)
            routing = _route(router, x, context)
            check_routing(routing)
            sizes = routing.num_tokens, routing.num_experts
            expect(
                sizes == (tokens, case.num_experts), "num_tokens and num_experts must be those of the call"
            )


def _scores_are_float32(case: _Case) -> None:
    router = case.router()
    x, context = case.input(router)
    check_routing(_route(router, x.bfloat16(), context))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check_routing(_route(router, x, context))
        check_routing(_route(router, x.bfloat16(), context))


def _evaluation_repeats_itself(case: _Case) -> None:
    router = case.router().eval()
    x, context = case.input(router)
    _expect_same(_route(router, x, context), _route(router, x, context), "two calls must route alike")


def _causal_is_told_truly(case: _Case) -> None:
    sequences, length = 4, -(-case.tokens // 4)
    some, first = torch.tensor([2, 0]), length // 2 + 1
    leaks = []
    for crowding in (1.0, 0.3, 0.1, 0.01):
        for training in (False, True):
            router = case.router().double().train(training)
            x = (
                torch.randn(1, 1, case.dim).double()
                + crowding * torch.randn(sequences, length, case.dim).double()
            )
            context = random_context(router.needs, (sequences, length))
            part = crop(context, some, first)
            if router.causal and training:
                continue  # noise would be another one
            whole = _weights(router, x, context)[some, :first]
            leaks.append(not torch.allclose(whole, _weights(router, x[some, :first], part), atol=1e-6))
    if router.causal:
        expect(not any(leaks), "causal is True, but a token's weights change with its company in the batch")
    elif case.shows_leak:
        expect(any(leaks), "causal is False, but no token's weights changed with its company in the batch")


def _weights(router: Router, x: Tensor, context: Context) -> Tensor:
    """(B, L, E) weights of sequences (B, L, D); for slots, the shares in them."""
    routing = router(x.flatten(0, 1), context.flatten(x.shape[:2]))
    table = routing.into.sum(-1) if isinstance(routing, SlotRouting) else routing.dense_weight()
    weights: Tensor = table.unflatten(0, x.shape[:2])
    return weights


def _masking_is_leaving_out(case: _Case) -> None:
    router, x, context = case.in_double()
    mask = torch.ones(case.tokens, dtype=torch.bool)
    mask[case.half()] = False
    masked = _route(router, x, replace(context, mask=mask))
    check_routing(masked)
    expect(masked.mask is not None and torch.equal(masked.mask, mask), "the routing must carry context.mask")
    alone = _route(router, x[mask], take(context, mask))
    expect_close(masked.dense_weight()[mask], alone.dense_weight(), "masking must equal leaving out")
    expect(torch.equal(masked.demand, alone.demand), "demand must not count masked tokens")
    nothing = _route(router, x, replace(context, mask=torch.zeros_like(mask)))
    check_routing(nothing)


def _copies_route_alike(case: _Case) -> None:
    router = case.router().eval()
    x, context = case.input(router)
    routing = _route(router, x, context)
    for way, twin in copies(router, case.router()).items():
        _expect_same(_route(twin, x, context), routing, f"the router that {way} brings back must route alike")


def _what_is_learned_gets_gradient(case: _Case) -> None:
    for options in ({}, {"k": 1}) if "k" in signature(case.factory).parameters else ({},):
        try:
            router = case.router(**options)
        except ValueError:  # refuses k=1
            continue
        learned = {name: p for name, p in router.named_parameters() if p.requires_grad}
        if not learned:
            continue
        x, context = case.input(router)
        for mask in (None, torch.arange(len(x)) % 2 == 0):
            before = router(torch.randn_like(x), context)  # for routers that look back
            weight = as_routing(router(x, replace(context, mask=mask), before)).weight
            found = gradients((weight * torch.randn_like(weight)).sum(), *learned.values())
            for name, gradient in zip(learned, found, strict=True):
                expect(bool(gradient.any()), f"{name} must get gradient through the weights{_told(options)}")


def _bad_input_is_refused(case: _Case) -> None:
    for sizes in ((0, case.num_experts), (case.dim, 0)):
        sentence = f"dim, num_experts = {sizes} must be refused by a ValueError"
        expect_refusal(lambda sizes=sizes: case.factory(*sizes), "", sentence)  # type: ignore[misc]
    router = case.router()
    x, context = case.input(router)
    for name in router.needs:
        without = replace(context, **{name: None})
        expect_refusal(
            lambda without=without: router(x, without),  # type: ignore[misc]
            f"context.{name}",
            f"without context.{name} the router must raise a ValueError",
        )


def _layer_is_a_plain_sum(case: _Case) -> None:
    router, x, context = case.in_double()
    experts = MLP(case.dim, case.num_experts, hidden=6).double()
    routing = router(x, context)
    plain = (
        _slot_by_slot(routing, x, experts) if isinstance(routing, SlotRouting) else _sum(routing, x, experts)
    )
    for dispatch in ("auto", "dense"):
        y = MoE(router, experts, dispatch=dispatch)(x, context)
        expect_close(y, plain, f"dispatch={dispatch!r} must equal a plain sum over assignments")


def _layer_gives_no_tokens_for_none(case: _Case) -> None:
    for leading in ((0,), (0, 3), (2, 0)):
        for training in (True, False):
            router = case.router().train(training)
            outputs = () if router.outputs is None else (router.outputs,)
            x, context = torch.randn(*leading, case.dim), random_context(router.needs, leading)
            for dispatch in ("auto", "dense"):
                y = MoE(router, MLP(case.dim, case.num_experts, hidden=6), dispatch=dispatch)(x, context)
                wanted = (*leading, *outputs, case.dim)
                expect(y.shape == wanted, f"x {tuple(x.shape)} must give {wanted}, not {tuple(y.shape)}")


def _padding_does_not_leak(case: _Case) -> None:
    router, x, context = case.in_double()
    experts = MLP(case.dim, case.num_experts, hidden=6).double()
    mask = torch.arange(case.tokens) % 3 > 0
    context = replace(context, mask=mask)
    spoiled = x.where(mask[:, None], torch.nan)
    for dispatch in ("auto", "dense"):
        layer = MoE(router, experts, dispatch=dispatch)
        y = layer(spoiled, context)[mask]
        expect_close(y, layer(x, context)[mask], "what stands in padding must not matter, NaN neither")
        for name, gradient in zip(
            dict(layer.named_parameters()), gradients(y.sum(), *layer.parameters()), strict=True
        ):
            expect(bool(gradient.isfinite().all()), f"NaN in padding reaches the gradient of {name}")


def _sum(routing: Routing, x: Tensor, experts: MLP) -> Tensor:
    rows = row_by_row(experts, x[routing.token], routing.expert, Context())
    plain = x.new_zeros(len(x), *routing.weight.shape[1:], x.shape[1])
    for token, weight, row in zip(routing.token.tolist(), routing.weight, rows, strict=True):
        plain[token] = plain[token] + weight[..., None] * row
    return plain


def _slot_by_slot(routing: SlotRouting, x: Tensor, experts: MLP) -> Tensor:
    plain = torch.zeros_like(x)
    for index, real in zip(routing.segments.index, routing.segments.real, strict=True):
        tokens = index[real]
        for expert in range(routing.num_experts):
            for into, out_of in zip(
                routing.into[tokens, expert].T, routing.out_of[tokens, expert].T, strict=True
            ):
                slot = (into[:, None] * x[tokens]).sum(0, keepdim=True)
                row = row_by_row(experts, slot, torch.tensor([expert]), Context())
                plain[tokens] += out_of[:, None] * row
    return plain


def _route(router: Router, x: Tensor, context: Context) -> Routing:
    return as_routing(router(x, context))


def _expect_same(found: Routing, wanted: Routing, sentence: str) -> None:
    expect(torch.equal(found.expert, wanted.expert), sentence)
    expect(torch.equal(found.token, wanted.token), sentence)
    expect_close(found.weight, wanted.weight, sentence)


def _told(options: dict[str, int]) -> str:
    return "".join(f" at {name}={value}" for name, value in options.items())


_CHECKS = (
    _routing_is_whole,
    _scores_are_float32,
    _evaluation_repeats_itself,
    _causal_is_told_truly,
    _masking_is_leaving_out,
    _copies_route_alike,
    _what_is_learned_gets_gradient,
    _bad_input_is_refused,
    _layer_is_a_plain_sum,
    _layer_gives_no_tokens_for_none,
    _padding_does_not_leak,
)
