"""Every router and every block of experts under test, found by what the packages export.

A new block is tested by being exported; variants that matter beside the defaults are listed here.
"""

from collections.abc import Callable
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from collegium import Context, experts, routers
from collegium.experts import Experts
from collegium.routers import Router
from collegium.testing import exported, random_context
from hypothesis import settings
from torch import nn

RouterFactory = Callable[[int, int], Router]
ExpertsFactory = Callable[[int, int], Experts]

ROUTERS: dict[str, RouterFactory] = {
    **exported(routers, Router),
    "TopK k=1": partial(routers.TopK, k=1),
    "TopK renormalized": partial(routers.TopK, renormalize=True),
    "TopK noise": partial(routers.TopK, noise=0.5),
    "TopK bias": partial(routers.TopK, bias=True),
    "TopK capacity": partial(routers.TopK, capacity_factor=0.8),
    "Switch free": partial(routers.Switch, capacity_factor=None, jitter=0.1, bias=True),
    "TopP narrow": partial(routers.TopP, p=0.01),
    "TopP whole": partial(routers.TopP, p=1.0),
    "ExpertChoice k=1": partial(routers.ExpertChoice, k=1),
    "Hash domain": partial(routers.Hash, key="domain", seed=3),
    "Random k=2": partial(routers.Random, k=2),
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
