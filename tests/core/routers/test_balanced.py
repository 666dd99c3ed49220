"""Base and Sinkhorn: even loads in training, the best experts in evaluation."""

import math
from typing import Any

import pytest
import torch
from collegium import Context
from collegium.routers import Base, Sinkhorn, TopK
from collegium.routers.balanced import sinkhorn
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tests.core.blocks import doubles, gradients_hold

D, E = 5, 4


def leaning(tokens: int) -> Tensor:
    """Tokens that all lean the same way."""
    return (torch.randn(tokens, D) + torch.randn(D)).double()


def counts(routing: Any) -> list[int]:
    return routing.row_counts().tolist()


def test_base_gives_each_expert_its_even_share_in_training() -> None:
    router, x = Base(D, E).double(), leaning(200)
    assert counts(router(x)) == [50] * E
    assert max(counts(router.eval()(x))) > 70


def test_base_gives_the_greatest_sum_of_logits() -> None:
    for _ in range(5):
        router, x = Base(D, E).double(), leaning(80)
        routing = router(x)
        logits = routing.logits.detach()
        table = logits.repeat_interleave(20, 1).numpy()
        best = table[linear_sum_assignment(table, maximize=True)].sum()
        found = (logits * routing.selected()).sum()
        assert best - 80 * 1e-3 * float(logits.max() - logits.min()) <= found <= best + 1e-9


@pytest.mark.parametrize("training", [True, False])
def test_base_weighs_by_the_sigmoid(training: bool) -> None:
    router, x = Base(D, E).double().train(training), leaning(20)
    routing = router(x)
    logits = x @ router.gate.weight.T
    for token, expert, weight in zip(routing.token, routing.expert, routing.weight, strict=True):
        assert math.isclose(
            float(weight.detach()), 1 / (1 + math.exp(-float(logits[token, expert].detach())))
        )


def test_base_is_greedy_in_evaluation() -> None:
    router, x = Base(D, E).double().eval(), leaning(60)
    wanted = (x @ router.gate.weight.T).argmax(1)
    assert torch.equal(router(x).dense_weight().argmax(1), wanted)
    assert (router(x).experts_per_token() == 1).all()


@pytest.mark.parametrize("cls", [Base, Sinkhorn])
def test_masked_tokens_take_no_place(cls: type[Any]) -> None:
    router, x, mask = cls(D, E).double(), leaning(60), torch.arange(60) % 3 > 0
    masked, alone = router(x, Context(mask=mask)), router(x[mask])
    torch.testing.assert_close(masked.dense_weight()[mask], alone.dense_weight())
    assert not masked.dense_weight()[~mask].any()
    if cls is Base:
        assert counts(masked) == [10] * E


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cls", [Base, Sinkhorn])
def test_gradients_are_those_of_differences(cls: type[Any], training: bool) -> None:
    assert gradients_hold(cls(3, E).double().train(training), doubles(8, 3))


def scaled_by_hand(logits: Tensor, rounds: int) -> Tensor:
    """exp(z), columns brought to T / E and rows to 1 in turn."""
    plan = [[math.exp(z) for z in row] for row in logits.tolist()]
    T, E = logits.shape
    for _ in range(rounds):
        for e in range(E):
            total = sum(row[e] for row in plan)
            for row in plan:
                row[e] *= T / E / total
        plan = [[mass / sum(row) for mass in row] for row in plan]
    return torch.tensor(plan, dtype=torch.float64)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-4])
def test_columns_of_the_plan_have_equal_mass(tolerance: float) -> None:
    plan = sinkhorn(2 * torch.randn(300, 6).double() + torch.randn(6).double(), tolerance)
    torch.testing.assert_close(plan.sum(1), torch.ones(300).double())
    assert (plan.sum(0) / 50 - 1).abs().max() <= tolerance


def test_the_plan_is_scaled_in_turn_until_it_is_even() -> None:
    logits = torch.randn(12, 3).double() + torch.tensor([3.0, 0.0, 0.0])
    torch.testing.assert_close(sinkhorn(logits, 1e-9), scaled_by_hand(logits, 60))
    assert (sinkhorn(logits, 1e-9, most_rounds=1).sum(0) - 4).abs().max() > 0.01  # one round is not enough


def test_what_is_added_to_a_token_or_to_an_expert_does_not_change_the_plan() -> None:
    logits = torch.randn(20, 4).double()
    shifted = logits + torch.randn(20, 1).double() + torch.randn(4).double()
    torch.testing.assert_close(sinkhorn(shifted, 1e-10, 1000), sinkhorn(logits, 1e-10, 1000))


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_sinkhorn_chooses_by_the_plan_and_weighs_by_the_scores(score: Any, k: int) -> None:
    router, x = Sinkhorn(D, E, k, score=score, tolerance=1e-9).double(), leaning(30)
    logits = x @ router.gate.weight.T
    scores = logits.softmax(1) if score == "softmax" else logits.sigmoid()
    plan = scaled_by_hand(logits, 100)
    wanted = torch.zeros(30, E, dtype=torch.float64)
    for t in range(30):
        for e in sorted(range(E), key=lambda e: -float(plan[t, e]))[:k]:
            wanted[t, e] = scores[t, e].detach()
    torch.testing.assert_close(router(x).dense_weight(), wanted)


def test_sinkhorn_evens_loads_in_training_and_is_top_k_in_evaluation() -> None:
    router, plain, x = Sinkhorn(D, E, k=1).double(), TopK(D, E, k=1).double(), leaning(1000)
    plain.load_state_dict(router.state_dict())
    assert max(counts(router(x))) < 350 < 500 < max(counts(plain(x)))
    assert torch.equal(router.eval()(x).dense_weight(), plain(x).dense_weight())


def test_an_expert_that_no_token_wants_gets_its_share_nonetheless() -> None:
    router = Sinkhorn(E, E, k=1)
    torch.nn.init.eye_(router.gate.weight)
    logits = torch.randn(400, E) - torch.tensor([0.0, 0.0, 0.0, 200.0])
    plan = sinkhorn(logits)
    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(0), torch.full((E,), 100.0), rtol=0.011, atol=0)
    assert max(counts(router(logits))[:3]) < 200


@pytest.mark.parametrize("cls", [Base, Sinkhorn])
def test_no_tokens_and_one_token(cls: type[Any]) -> None:
    for tokens in (0, 1):
        routing = cls(D, E)(torch.randn(tokens, D))
        assert len(routing.experts_per_token()) == tokens
        assert (routing.experts_per_token() > 0).all()


@pytest.mark.parametrize("cls", [Base, Sinkhorn])
def test_they_say_that_they_are_not_causal(cls: type[Any]) -> None:
    assert not cls(D, E).causal


def test_what_top_k_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Sinkhorn: k=5 must lie between 1 and num_experts=4$"):
        Sinkhorn(D, E, k=5)
    with pytest.raises(ValueError, match=r"would never learn$"):
        Sinkhorn(D, E, k=1, renormalize=True)
    with pytest.raises(ValueError, match=r"unknown score 'tanh': choose 'softmax' or 'sigmoid'$"):
        Sinkhorn(D, E, score="tanh")  # type: ignore[arg-type]


def test_base_tells_logits_apart_whose_sigmoids_are_one() -> None:
    router = Base(2, 2)
    torch.nn.init.eye_(router.gate.weight)
    assert router(torch.tensor([[40.0, 30.0], [40.0, 39.0]])).dense_weight().tolist() == [[1, 0], [0, 1]]
    assert router.eval()(torch.tensor([[40.0, 39.0], [39.0, 40.0]])).dense_weight().tolist() == [
        [1, 0],
        [0, 1],
    ]


def test_sinkhorn_plans_by_logits_whose_softmax_is_zero() -> None:
    router = Sinkhorn(2, 2, k=1)
    torch.nn.init.eye_(router.gate.weight)
    logits = torch.tensor([[70.0, 0.0], [65.0, 0.0], [60.0, 0.0], [55.0, 0.0]])
    assert router(logits).selected().long().argmax(1).tolist() == [0, 0, 1, 1]
