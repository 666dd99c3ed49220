"""What moves by small steps goes on moving in a model of half precision."""

from collections.abc import Iterator

import pytest
import torch
from collegium import MoE, balance, experts, record, routers
from torch import Tensor, nn

D, E = 4, 2


def test_a_selection_bias_moves_by_steps_that_half_precision_cannot_tell() -> None:
    layer = MoE(routers.TopK(D, E, k=1, bias=True), experts.Copy(E))
    layer.router.bias.fill_(0.5)
    layer.bfloat16()
    balancing = balance.BiasBalance(layer, rate=1e-3)
    with record(layer) as routings:
        layer(torch.randn(31, D).bfloat16())
    balancing.observe(routings)
    balancing.step()
    torch.testing.assert_close(layer.router.bias.sort().values, torch.tensor([0.499, 0.501]))


def test_running_moments_follow_small_drifts() -> None:
    rows = 1.01 + 0.1 * torch.randn(2000, D)
    block = experts.NormAct(experts.Copy(E), D).bfloat16()
    router = routers.ProductKey(D, 4).bfloat16()
    block.mean.fill_(1.0)
    router.mean.fill_(1.0)
    with torch.no_grad():
        router.keys.fill_(1 / D)
        for _ in range(50):
            block(rows.bfloat16(), 1000)
            router(rows.bfloat16())
    for mean in (block.mean, router.mean):
        torch.testing.assert_close(mean, torch.full_like(mean, 1.01), atol=7e-3, rtol=0)
        assert not torch.equal(mean, mean.bfloat16().float())


def buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}


@pytest.mark.parametrize(
    "module",
    [
        routers.TopK(D, E, bias=True),
        routers.FixedPlusRouted(D, 3, router=lambda dim, num: routers.TopK(dim, num, bias=True)),
        routers.ProductKey(D, 4),
        routers.DenseToSparse(D, E),
        experts.NormAct(experts.Copy(E), D),
    ],
    ids=lambda module: type(module).__name__,
)
def test_a_cast_keeps_the_values_of_buffers(module: nn.Module) -> None:
    for buffer in buffers(module).values():
        buffer.fill_(0.1234567)
    before = {name: buffer.clone() for name, buffer in buffers(module).items()}
    assert before
    model = nn.Sequential(module)
    for cast in (model.bfloat16, model.half, model.float):
        cast()
        assert {name: buffer.dtype for name, buffer in buffers(module).items()} == dict.fromkeys(
            before, torch.float32
        )
        torch.testing.assert_close(buffers(module), before, rtol=0, atol=0)
    model.double()
    assert all(buffer.dtype == torch.float64 for buffer in buffers(module).values())
    model.to("meta")
    assert all(buffer.is_meta for buffer in buffers(module).values())


@pytest.fixture
def half_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("half_by_default")
def test_a_model_that_is_made_in_half_precision_has_them_too() -> None:
    made = (
        routers.TopK(D, E, bias=True),
        routers.ProductKey(D, 4),
        routers.DenseToSparse(D, E),
        experts.NormAct(experts.Copy(E), D),
    )
    for module in made:
        assert {buffer.dtype for buffer in buffers(module).values()} == {torch.float32}
