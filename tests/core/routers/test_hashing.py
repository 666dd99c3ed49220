"""Hash: fixed, even, and of the key alone."""

import pytest
import torch
from collegium import Context
from collegium.routers import Hash

KEYS = torch.arange(20_000)


def experts_of(router: Hash, key: torch.Tensor, field: str = "label") -> torch.Tensor:
    routing = router(torch.randn(len(key), router.dim), Context(**{field: key}))  # type: ignore[arg-type]
    return routing.dense_weight().argmax(1)


def test_the_expert_is_a_fixed_function_of_the_key() -> None:
    chosen = experts_of(Hash(4, 8), KEYS[:12])
    assert chosen.tolist() == [0, 7, 0, 5, 1, 2, 0, 3, 3, 3, 4, 4]  # the same on every machine, for ever
    assert torch.equal(experts_of(Hash(9, 8), KEYS[:12]), chosen)


def test_another_seed_is_another_assignment() -> None:
    one, other = (experts_of(Hash(4, 8, seed=seed), KEYS) for seed in (0, 1))
    assert 0.08 < (one == other).float().mean() < 0.17  # chance is 1/8


@pytest.mark.parametrize("stride", [1, 2, 8, 1000])
def test_keys_spread_evenly(stride: int) -> None:
    load = torch.bincount(experts_of(Hash(4, 8), KEYS * stride), minlength=8)
    assert load.max() / load.double().mean() < 1.06


@pytest.mark.parametrize("field", ["label", "task", "domain", "position", "segment"])
def test_the_named_field_is_the_key(field: str) -> None:
    router = Hash(4, 8, by=field)
    assert router.needs == (field,)
    assert torch.equal(experts_of(router, KEYS[:50], field), experts_of(Hash(4, 8), KEYS[:50]))


def test_any_integer_is_a_key() -> None:
    keys = torch.tensor([-1, -(2**63), 2**63 - 1, 2**40])
    chosen = experts_of(Hash(4, 8, seed=10**12), keys)
    assert ((chosen >= 0) & (chosen < 8)).all()


def test_the_weight_is_one() -> None:
    routing = Hash(4, 8)(torch.randn(5, 4), Context(label=KEYS[:5]))
    assert routing.weight.tolist() == [1.0] * 5
    assert routing.experts_per_token().tolist() == [1] * 5


@pytest.mark.parametrize("field", ["time", "mask", "flatten", "nothing"])
def test_a_field_without_ids_is_refused(field: str) -> None:
    with pytest.raises(
        ValueError, match=f"by='{field}' is not one of label, task, domain, position, segment$"
    ):
        Hash(4, 8, by=field)
