"""Residual: W x + V z of the layer before."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from collegium import Context, MoE, Routing, experts
from collegium.gates import Conditioned, Residual, Similar
from collegium.routers import Hash, TopK
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold

D, E, T = 3, 4, 5


def layer_before(logits: Tensor) -> Routing:
    return Routing.dense(logits.softmax(1), logits=logits, probs=logits.softmax(1))


def test_scores_are_the_gates_plus_a_map_of_the_last() -> None:
    gate, x, last = Residual(D, E).double(), doubles(T, D), doubles(T, E)
    W, V, tokens, scores = (value.tolist() for value in (gate.gate.weight, gate.carry, x, last))
    wanted = [
        [
            sum(W[e][d] * tokens[t][d] for d in range(D)) + sum(V[e][f] * scores[t][f] for f in range(E))
            for e in range(E)
        ]
        for t in range(T)
    ]
    found = gate(x, Context(), layer_before(last))
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))


def test_in_the_first_layer_the_gate_stands_alone() -> None:
    gate, x = Residual(D, E), torch.randn(T, D)
    logits = gate(x, Context(), None)
    torch.testing.assert_close(logits, x @ gate.gate.weight.T)
    logits.sum().backward()
    assert torch.equal(gate.carry.grad, torch.zeros(E, E))  # part of the graph even so


def test_the_pathway_reaches_back_through_all_layers() -> None:
    """Scores of the third of three layers, written out: W3 x + V3 (W2 x + V2 W1 x)."""
    x, previous = torch.randn(T, D), None
    layers = [MoE(TopK(D, E, gate=Residual), experts.MLP(D, E, hidden=2)) for _ in range(3)]
    for layer in layers:
        _, previous = layer(x, None, previous, return_routing=True)
    (w1, _), (w2, v2), (w3, v3) = ((m.router.gate.gate.weight.T, m.router.gate.carry.T) for m in layers)
    torch.testing.assert_close(previous.logits, x @ w3 + (x @ w2 + x @ w1 @ v2) @ v3)


def test_gradients_are_those_of_differences() -> None:
    gate, last = Residual(D, E).double(), layer_before(torch.randn(T, E).double())
    assert gradients_hold(gate, doubles(T, D), Context(), last, read=lambda logits: logits)


def test_the_loss_reaches_the_layer_before() -> None:
    last = doubles(T, E)
    Residual(D, E).double()(doubles(T, D), Context(), layer_before(last))[2, 1].backward()
    assert last.grad[2].all()
    assert not last.grad[[0, 1, 3, 4]].any()


def test_it_wants_and_promises_what_its_gate_does() -> None:
    assert Residual(D, E, partial(Conditioned, by="label")).needs == ("label",)
    assert Residual(D, E).causal
    assert not Residual(D, E, partial(Similar, look_ahead=True)).causal


@pytest.mark.parametrize("has", ["fewer experts", "other tokens", "no scores"])
def test_a_layer_before_that_does_not_fit_is_refused(has: str) -> None:
    before = {
        "fewer experts": layer_before(torch.randn(T, E - 1)),
        "other tokens": layer_before(torch.randn(T + 1, E)),
        "no scores": replace(Hash(D, E)(torch.randn(T, D), Context(label=torch.arange(T))), logits=None),
    }[has]
    words = (
        rf"needs the scores \({T}, {E}\) of the layer before, which has .*as many experts and gates in both$"
    )
    with pytest.raises(ValueError, match=words):
        Residual(D, E)(torch.randn(T, D), Context(), before)
