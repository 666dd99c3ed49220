"""Every router and every block of experts under test, found by what the packages export.

A new block is tested by being exported; variants that matter beside the defaults are listed here.
"""

import math
from collections.abc import Callable
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from collegium import Context, experts, gates, routers
from collegium.experts import Experts
from collegium.routers import Router
from collegium.routing import Routing
from collegium.testing import exported, random_context
from hypothesis import settings
from torch import Tensor, nn
from torch.func import functional_call

RouterFactory = Callable[[int, int], Router]
NARROW = ("EqualPerGroup", "FixedPlusRouted", "GroupLimited", "ProductKey", "SoftSlots")
"""Routers that do not take every number of experts, or make no assignments."""
ExpertsFactory = Callable[[int, int], Experts]


def halves(num_experts: int) -> int:
    """Two groups where the experts can be halved, else one."""
    return 1 if num_experts % 2 else 2


def limited(dim: int, num_experts: int, **options: Any) -> Router:
    """One of two groups of experts, where there are two."""
    return routers.GroupLimited(dim, num_experts, k=1, groups=halves(num_experts), **options)


def equal(dim: int, num_experts: int) -> Router:
    """One expert in each of two groups, where there are two."""
    groups = halves(num_experts)
    return routers.EqualPerGroup(dim, num_experts, k=groups, groups=groups)


def plus_routed(dim: int, num_experts: int, router: RouterFactory = routers.Hash) -> Router:
    """A fixed expert beside a choice."""
    return routers.FixedPlusRouted(dim, num_experts, router=router)


def product_key(dim: int, num_experts: int) -> Router:
    """Product keys over the greatest square of experts, the others fixed."""
    keys = partial(routers.ProductKey, heads=2)
    rest = num_experts - math.isqrt(max(num_experts, 0)) ** 2
    return routers.FixedPlusRouted(dim, num_experts, rest, keys) if rest else keys(dim, num_experts)


def masked_gates(dim: int, num_experts: int) -> Router:
    """Two gates, the first of which does not see the last expert."""
    visible = [[True] * (num_experts - 1) + [num_experts < 2], [True] * num_experts]
    return routers.MultiGate(dim, num_experts, gates=2, visible=visible)


def own_gates(dim: int, num_experts: int) -> Router:
    """Two gates with a self-gate each: the first for all experts, the second for one."""
    own = [[True] * num_experts, [True] + [False] * (num_experts - 1)]
    return routers.MultiGate(dim, num_experts, gates=2, own=own)


def annealed(dim: int, num_experts: int, progress: float = 1.0) -> Router:
    """A dense-to-sparse router some way on."""
    router = routers.DenseToSparse(dim, num_experts)
    router.anneal(progress)
    return router


ROUTERS: dict[str, RouterFactory] = {
    **{name: found for name, found in exported(routers, Router).items() if name not in NARROW},
    "TopK k=1": partial(routers.TopK, k=1),
    "TopK renormalized": partial(routers.TopK, renormalize=True),
    "TopK noise": partial(routers.TopK, noise=0.5),
    "TopK bias": partial(routers.TopK, bias=True),
    "TopK capacity": partial(routers.TopK, capacity_factor=0.8),
    "TopK sigmoid": partial(routers.TopK, score="sigmoid", renormalize=True),
    "TopK cosine": partial(routers.TopK, gate=partial(gates.Cosine, temperature=0.5)),
    "TopK centroid": partial(routers.TopK, gate=gates.Centroid),
    "TopK by task": partial(routers.TopK, gate=gates.Conditioned),
    "TopK gate a domain": partial(routers.TopK, gate=partial(gates.Conditioned, by="domain", own_gate=True)),
    "TopK by label": partial(routers.TopK, gate=partial(gates.Conditioned, by="label", use_token=False)),
    "TopK by time": partial(routers.TopK, gate=partial(gates.Conditioned, by="time")),
    "TopK residual": partial(routers.TopK, gate=gates.Residual),
    "TopK similar": partial(routers.TopK, gate=gates.Similar),
    "TopK similar, looking ahead": partial(routers.TopK, gate=partial(gates.Similar, look_ahead=True)),
    "TopK attended": partial(routers.TopK, gate=gates.Attended),
    "NoisyTopK k=1": partial(routers.NoisyTopK, k=1, bias=True),
    "GroupLimited": limited,
    "GroupLimited bias": partial(limited, bias=True, score="sigmoid"),
    "EqualPerGroup": equal,
    "Switch free": partial(routers.Switch, capacity_factor=None, jitter=0.1, bias=True),
    "TopP narrow": partial(routers.TopP, p=0.01),
    "TopP whole": partial(routers.TopP, p=1.0),
    "TopP nulls": partial(routers.TopP, p=0.6, nulls=2),
    "ExpertChoice k=1": partial(routers.ExpertChoice, k=1),
    "Hash domain": partial(routers.Hash, by="domain", seed=3),
    "Lookup": partial(routers.Lookup, by="position"),
    "Random k=2": partial(routers.Random, k=2),
    "Sinkhorn k=1": partial(routers.Sinkhorn, k=1, score="sigmoid"),
    "DSelectK k=1": partial(routers.DSelectK, k=1),
    "Comet k=1, search": partial(routers.Comet, k=1, search=0.5),
    "DenseToSparse halfway": partial(annealed, progress=0.5),
    "DenseToSparse done": annealed,
    "FixedPlusRouted": partial(plus_routed, router=partial(routers.TopK, k=1)),
    "FixedPlusRouted Hash": plus_routed,
    "FixedPlusRouted TopP": partial(plus_routed, router=routers.TopP),
    "Recurrent": partial(routers.Recurrent, state_dim=3),  # of the usual width differences take minutes
    "Recurrent TopP": partial(routers.Recurrent, state_dim=3, router=routers.TopP),
    "ProductKey": product_key,
    "MultiGate masked": masked_gates,
    "MultiGate of choices": partial(routers.MultiGate, router=routers.TopK),
    "MultiGate with own": own_gates,
    "WholeSegment TopP": partial(routers.WholeSegment, router=routers.TopP),
}


def small_network(dim: int) -> nn.Module:
    """An expert that is no MLP block: normalised, with biases."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 5), nn.Tanh(), nn.Linear(5, dim))


def groups(dim: int, num_experts: int) -> list[Experts]:
    """Blocks of unequal kind and size that make ``num_experts`` together."""
    blocks: list[Experts] = [experts.MLP(dim, max(num_experts - 2, 1), hidden=3, activation="swiglu")]
    if num_experts > 1:
        blocks.append(experts.Zero(1))
    if num_experts > 2:
        blocks.append(experts.Constant(dim, 1))
    return blocks if num_experts else []


def build(cls: type[Experts], dim: int, num_experts: int) -> Experts:
    """A block of the class, its required arguments filled in by name."""
    known: dict[str, Callable[[], Any]] = {
        "dim": lambda: dim,
        "num_experts": lambda: num_experts,
        "hidden": lambda: 6,
        "modules": lambda: [small_network(dim) for _ in range(num_experts)],
        "blocks": lambda: groups(dim, num_experts),
        "block": lambda: experts.MLP(dim, num_experts, hidden=6),
        "width": lambda: dim,
        "read": lambda: [expert % 3 for expert in range(num_experts)],
    }
    wanted = [p.name for p in signature(cls).parameters.values() if p.default is Parameter.empty]
    wanted += (
        ["num_experts"] if "num_experts" in signature(cls).parameters and "num_experts" not in wanted else []
    )
    return cls(**{name: known[name]() for name in wanted})


def sequence_experts(dim: int, num_experts: int) -> Experts:
    """Experts of items with two dims: (3, dim)."""
    return experts.ExpertList([small_network(dim) for _ in range(num_experts)], item_ndim=2)


def narrow_experts(dim: int, num_experts: int) -> Experts:
    """Experts with another width out than in."""
    return experts.MLP(dim, num_experts, hidden=3, activation="relu", out_dim=2)


EXPERTS: dict[str, ExpertsFactory] = {
    **{name: partial(build, cls) for name, cls in exported(experts, Experts).items()},
    "MLP swiglu": partial(experts.MLP, hidden=5, activation="swiglu"),
    "MLP silu": partial(experts.MLP, hidden=5, activation="silu"),
    "MLP relu, narrow": narrow_experts,
    "ExpertList of sequences": sequence_experts,
    "NormAct relu, no norm": lambda dim, E: experts.NormAct(
        narrow_experts(dim, E), 2, norm=False, act="relu"
    ),
    "NormAct of sequences": lambda dim, E: experts.NormAct(
        experts.RowExperts(narrow_experts(dim, E), [0] * E), 2
    ),
    "FeatureGate of NormAct": lambda dim, E: experts.FeatureGate(
        experts.NormAct(narrow_experts(dim, E), 2), dim, rank=3
    ),
}


def item_of(block: Experts, dim: int) -> tuple[int, ...]:
    """Shape of an item that the block takes."""
    return (3,) * (block.item_ndim - 1) + (dim,)


def context_for(router: Router, block: Experts, leading: tuple[int, ...], mask: bool = False) -> Context:
    """What both need, and a random mask if asked for."""
    return random_context({*router.needs, *block.needs, *(["mask"] if mask else [])}, leading)


def examples(number: int) -> settings:
    """Hypothesis settings: the same examples in every run, and no clock."""
    return settings(max_examples=number, deadline=None, derandomize=True, database=None)


def doubles(*shape: int) -> torch.Tensor:
    """Random float64 that takes gradient."""
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def gradients_hold(
    module: nn.Module,
    x: Tensor,
    context: Context | None = None,
    previous: Routing | None = None,
    read: Callable[[Any], Any] = lambda routing: routing.dense_weight(),
    seed: int | None = None,
) -> bool:
    """Gradients of what is read of a module's value, in x and in all that is learned, against differences.

    With a seed, every call draws the same noise.
    """
    learned = {name: p.detach().requires_grad_() for name, p in module.named_parameters() if p.requires_grad}

    def value(x: Tensor, *parameters: Tensor) -> Any:
        if seed is not None:
            torch.manual_seed(seed)
        state = dict(zip(learned, parameters, strict=True))
        return read(functional_call(module, state, (x, context, previous)))

    inputs = (x.detach().requires_grad_(), *learned.values())
    return torch.autograd.gradcheck(value, inputs)
