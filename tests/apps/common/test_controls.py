"""The controls differ from the routed block in what they are named after, and in nothing else."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from collegium import MoE, inspection, record, routers
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from torch import nn

from apps.common.controls import KINDS, Control, DenseFFN, MixtureFFN


def mixture(**options: Any) -> partial[MixtureFFN]:
    return partial(MixtureFFN, **{"num_experts": 4, "hidden": 24, **options})


@settings(max_examples=30, deadline=None)
@given(
    dim=st.sampled_from([8, 16]),
    num_experts=st.integers(2, 8),
    hidden=st.integers(4, 40),
    k=st.integers(1, 2),
    shared=st.sampled_from([None, 8]),
    activation=st.sampled_from(["gelu", "relu", "silu", "swiglu"]),
)
def test_dense_twins_have_equal_parameters(
    dim: int, num_experts: int, hidden: int, k: int, shared: int | None, activation: str
) -> None:
    factory = mixture(
        num_experts=num_experts,
        hidden=hidden,
        router=partial(routers.TopK, k=k),
        shared_hidden=shared,
        activation=activation,
    )
    active, total = inspection.parameters(factory(dim))
    unit = (3 if activation == "swiglu" else 2) * dim  # a hidden unit more or less
    for kind, wanted in (("dense_active", active), ("dense_total", total)):
        twin = Control(kind, factory)(dim)
        assert isinstance(twin, DenseFFN)
        assert abs(inspection.parameters(twin)[1] - wanted) <= unit / 2


def test_parameters_by_hand() -> None:
    block = MixtureFFN(8, num_experts=4, hidden=24, activation="gelu", shared_hidden=10)
    one, gate, shared = 2 * 8 * 24, 4 * 8, 2 * 8 * 10 + 8
    assert inspection.parameters(block) == (2 * one + gate + shared, 4 * one + gate + shared)


def test_a_random_router_is_the_same_mixture_that_never_learns_to_route() -> None:
    built = []
    for kind in ("routed", "random_router"):
        torch.manual_seed(0)
        built.append(Control(kind, mixture())(8))
    routed, control = built
    assert all(torch.equal(a, b) for a, b in zip(routed.parameters(), control.parameters(), strict=True))
    x = torch.randn(5, 8)
    assert torch.equal(routed(x), control(x))
    control(x).square().sum().backward()
    assert all(not p.requires_grad and p.grad is None for p in control.router.parameters())
    assert all(p.grad is not None for p in control.experts.parameters())


def test_every_layer_gets_its_own_block() -> None:
    for kind in KINDS:
        build = Control(kind, mixture())
        one, other = build(8), build(8)
        assert not {id(p) for p in one.parameters()} & {id(p) for p in other.parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_control_fits_the_same_place(kind: Any) -> None:
    block = Control(kind, mixture(shared_hidden=6))(8)
    x = torch.randn(2, 3, 8)
    assert block(x).shape == x.shape
    torch.testing.assert_close(block(x)[1, 2], block(x[1, 2][None])[0])
    with record(block) as routings:
        block(x)
    assert len(routings) == isinstance(block, MoE)


def test_an_unknown_control_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown control 'dense': choose one of routed, dense_active"):
        Control("dense")  # type: ignore[arg-type]


def test_a_block_is_built_from_yaml() -> None:
    """The model asks for a factory; the configuration names a class and its options."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(wants_a_factory)
    given = parser.parse_string(
        """
        feed_forward:
          class_path: apps.common.controls.MixtureFFN
          init_args:
            num_experts: 3
            router: {class_path: collegium.routers.TopP, init_args: {p: 0.7}}
        """
    )
    one, other = (parser.instantiate_classes(given).feed_forward(8) for _ in range(2))
    assert (one.router.p, one.experts.num_experts, one.router.dim) == (0.7, 3, 8)
    assert one.router is not other.router


def wants_a_factory(feed_forward: Callable[[int], nn.Module]) -> None:
    """Take what an app's model takes."""


def test_no_dense_block_equals_the_active_compute_of_a_router_without_k() -> None:
    varying = mixture(router=routers.TopP)
    with pytest.raises(ValueError, match="dense_active: TopP has no fixed number of experts"):
        Control("dense_active", varying)(8)
    assert inspection.parameters(Control("dense_total", varying)(8))[1] > 0
    one = 3 * 8 * 24
    averaging = mixture(router=routers.Random)  # one expert in training, all four in evaluation
    assert inspection.parameters(Control("dense_active", averaging)(8))[1] == 4 * one
    assert inspection.parameters(Control("dense_active", mixture(router=routers.Hash))(8))[1] == one
