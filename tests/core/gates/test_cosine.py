"""Cosine: directions alone, over a temperature."""

import math

import pytest
import torch
from collegium import Context
from collegium.gates import Cosine
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold


def scores(gate: Cosine, x: Tensor) -> Tensor:
    return gate(x, Context(), None)


def cosine(a: list[float], b: list[float]) -> float:
    product = sum(i * j for i, j in zip(a, b, strict=True))
    return product / math.sqrt(sum(i * i for i in a)) / math.sqrt(sum(j * j for j in b))


@pytest.mark.parametrize("width", [1, 2, 5])
def test_scores_are_cosines_over_the_temperature(width: int) -> None:
    gate, x = Cosine(3, 4, proj_dim=width, temperature=0.3).double(), torch.randn(5, 3).double()
    V, directions = gate.projection.tolist(), gate.directions.tolist()
    wanted = []
    for token in x.tolist():
        point = [sum(v * i for v, i in zip(line, token, strict=True)) for line in V]
        wanted.append([cosine(point, direction) / 0.3 for direction in directions])
    torch.testing.assert_close(
        scores(gate, x), torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=1e-6
    )


def test_the_length_of_a_token_does_not_matter_and_its_direction_does() -> None:
    gate, x = Cosine(6, 4).double(), doubles(9, 6)
    length = 10 ** torch.linspace(-3, 3, 9, dtype=torch.float64)[:, None]
    torch.testing.assert_close(scores(gate, length * x), scores(gate, x))
    torch.testing.assert_close(scores(gate, -x), -scores(gate, x))


def test_scores_stay_within_one_over_the_temperature() -> None:
    gate = Cosine(6, 4, temperature=0.2)
    logits = scores(gate, 1e4 * torch.randn(2000, 6))
    assert 4.9 < logits.abs().max() <= 5.0001


def test_the_temperature_is_learned_and_never_falls_below_a_hundredth() -> None:
    gate, x = Cosine(6, 4), torch.randn(2000, 6)
    assert gate.log_temperature.requires_grad
    torch.nn.init.constant_(gate.log_temperature, -50.0)
    assert 98 < scores(gate, x).abs().max() <= 100.01


def test_gradients_are_those_of_differences() -> None:
    gate = Cosine(3, 4, temperature=0.5).double()
    assert gradients_hold(gate, doubles(5, 3), Context(), read=lambda logits: logits)


@pytest.mark.parametrize(("num_experts", "width"), [(1, 2), (4, 2), (16, 8)])
def test_directions_are_compared_in_half_as_many_dims_as_experts(num_experts: int, width: int) -> None:
    assert Cosine(6, num_experts).directions.shape == (num_experts, width)


@pytest.mark.parametrize("options", [{"proj_dim": 0}, {"temperature": 0.01}, {"temperature": -1.0}])
def test_no_width_and_no_temperature_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"proj_dim of at least 1 and a temperature above 0\.01$"):
        Cosine(6, 4, **options)  # type: ignore[arg-type]
