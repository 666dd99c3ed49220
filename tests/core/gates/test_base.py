"""The plain gate is a matrix; sizes below one are refused by every gate."""

import pytest
import torch
from collegium import Context, gates
from collegium.gates import Gate, Linear
from collegium.testing import exported

from tests.core.blocks import doubles, gradients_hold

GATES = exported(gates, Gate)


def test_scores_are_sums_of_products() -> None:
    gate, x = Linear(3, 4).double(), doubles(5, 3)
    W, tokens = gate.weight.tolist(), x.tolist()
    wanted = [[sum(W[e][d] * tokens[t][d] for d in range(3)) for e in range(4)] for t in range(5)]
    torch.testing.assert_close(gate(x, Context(), None), torch.tensor(wanted, dtype=torch.float64))


def test_gradients_are_those_of_differences() -> None:
    assert gradients_hold(Linear(3, 4).double(), doubles(5, 3), Context(), read=lambda logits: logits)


def test_scores_begin_small_enough_for_an_even_softmax() -> None:
    logits = Linear(400, 8)(torch.randn(500, 400), Context(), None)
    assert 0.4 < logits.std() < 0.7  # 1 / sqrt(3)


def test_scores_are_as_wide_as_the_tokens() -> None:
    gate = Linear(3, 4).bfloat16()
    assert gate(torch.randn(5, 3), Context(), None).dtype == torch.float32


def test_a_gate_says_its_sizes() -> None:
    assert repr(Linear(3, 4)) == "Linear(dim=3, num_experts=4)"


@pytest.mark.parametrize("sizes", [(0, 4), (3, 0), (-1, 4)])
@pytest.mark.parametrize("name", GATES)
def test_sizes_below_one_are_refused(name: str, sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"wants dim and num_experts of at least 1$"):
        GATES[name](*sizes)
