"""Conditioned: a bias, a gate of its own or waves of time for each condition."""

import math
from typing import Any

import pytest
import torch
from collegium import Context
from collegium.gates import Conditioned
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold

D, E, VALUES = 3, 4, 5
IDS = torch.tensor([4, 0, 0, 2, 1, 3])
TIME = torch.tensor([0.0, 0.5, 3.0, 77.0, 400.0, 999.0], dtype=torch.float64)
WAVES = 16


def product(weight: Tensor, token: list[float], e: int) -> float:
    return sum(w * i for w, i in zip(weight[e].tolist(), token, strict=True))


@pytest.mark.parametrize("by", ["task", "domain", "label", "position", "segment"])
@pytest.mark.parametrize("use_token", [True, False])
def test_ids_have_a_bias_each(by: Any, use_token: bool) -> None:
    gate, x = Conditioned(D, E, by, VALUES, use_token=use_token).double(), torch.randn(6, D).double()
    wanted = [
        [
            (product(gate.weight[0], token, e) if use_token else 0.0) + gate.bias[value, e].item()
            for e in range(E)
        ]
        for token, value in zip(x.tolist(), IDS.tolist(), strict=True)
    ]
    found = gate(x, Context(**{by: IDS}), None)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))
    assert gate.needs == (by,)


def test_ids_have_a_gate_each() -> None:
    gate, x = Conditioned(D, E, "domain", VALUES, own_gate=True).double(), torch.randn(6, D).double()
    wanted = [
        [product(gate.weight[value], token, e) for e in range(E)]
        for token, value in zip(x.tolist(), IDS.tolist(), strict=True)
    ]
    torch.testing.assert_close(gate(x, Context(domain=IDS), None), torch.tensor(wanted, dtype=torch.float64))
    assert gate.bias is None


def test_time_is_told_by_sines_and_cosines() -> None:
    gate, x = Conditioned(D, E, "time", period=200.0).double(), torch.randn(6, D).double()
    wanted = []
    for token, time in zip(x.tolist(), TIME.tolist(), strict=True):
        angles = [time / 200 ** (i / (WAVES - 1)) for i in range(WAVES)]
        waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        wanted.append(
            [
                product(gate.weight[0], token, e)
                + sum(w * gate.bias[i, e].item() for i, w in enumerate(waves))
                for e in range(E)
            ]
        )
    torch.testing.assert_close(gate(x, Context(time=TIME), None), torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize(("wave", "period"), [(0, 1.0), (WAVES - 1, 50.0)])
def test_periods_reach_from_2_pi_to_as_many_times_that_as_is_asked(wave: int, period: float) -> None:
    gate = Conditioned(D, 1, "time", use_token=False, period=50.0).double()
    torch.nn.init.zeros_(gate.bias)
    gate.bias.data[wave] = 1.0
    quarters = torch.arange(8, dtype=torch.float64) * math.pi / 2 * period
    found = gate(quarters.new_zeros(8, D), Context(time=quarters), None)[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 0.0, -1.0] * 2, dtype=torch.float64))


def test_near_times_score_alike_and_far_ones_do_not() -> None:
    gate = Conditioned(D, E, "time", use_token=False)
    time = torch.tensor([300.0, 300.01, 700.0])
    first, near, far = gate(torch.zeros(3, D), Context(time=time), None)
    assert (first - near).abs().max() < 0.05
    assert (first - far).abs().max() > 0.2


def test_the_condition_alone_decides_where_the_token_is_left_out() -> None:
    gate = Conditioned(D, E, "label", VALUES, use_token=False)
    one, other = (gate(torch.randn(6, D), Context(label=IDS), None) for _ in range(2))
    assert torch.equal(one, other)
    assert len(one.unique(dim=0)) == VALUES
    assert gate.weight is None


@pytest.mark.parametrize(
    "options",
    [{"by": "task"}, {"by": "task", "own_gate": True}, {"by": "label", "use_token": False}, {"by": "time"}],
)
def test_gradients_are_those_of_differences(options: dict[str, Any]) -> None:
    gate = Conditioned(D, E, values=VALUES, **options).double()
    context = Context(task=IDS, label=IDS, time=TIME)
    assert gradients_hold(gate, doubles(6, D), context, read=lambda logits: logits)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "mask"}, "by='mask' is not one of label, task, domain, position, segment, time$"),
        ({"by": "time", "own_gate": True}, "own_gate wants ids and the token"),
        ({"own_gate": True, "use_token": False}, "own_gate wants ids and the token"),
        ({"values": 0}, "at least one value and a positive period$"),
        ({"by": "time", "period": 0.0}, "at least one value and a positive period$"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Conditioned(D, E, **options)


@pytest.mark.parametrize("own_gate", [True, False])
@pytest.mark.parametrize("bad", [-1, VALUES])
def test_an_unknown_id_is_refused(bad: int, own_gate: bool) -> None:
    gate = Conditioned(D, E, "task", VALUES, own_gate=own_gate)
    ids = IDS.clone()
    ids[3] = bad
    words = rf"context\.task holds {bad}, and the gate knows 0 to {VALUES - 1}: raise values$"
    with pytest.raises(ValueError, match=words):
        gate(torch.randn(6, D), Context(task=ids), None)
