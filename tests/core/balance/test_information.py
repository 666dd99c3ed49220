"""Information and concentration against their definitions."""

import math

import pytest
import torch
from collegium import Context, MoE, Routing, balance, experts, record
from collegium.routers import MultiGate, TopK
from torch import Tensor


def routing_of(probs: Tensor, context: Context | None = None, mask: Tensor | None = None) -> Routing:
    index = probs.argmax(1, keepdim=True)
    routing = Routing.from_topk(index, probs.gather(1, index), probs.shape[1], mask=mask, probs=probs)
    return Routing(**{**vars(routing), "context": context})


def entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


PROBS = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7]])
TASK = torch.tensor([0, 0, 1, 1])


def test_information_about_the_token_by_hand() -> None:
    rows = [entropy(row) for row in PROBS.tolist()]
    wanted = -(entropy([0.45, 0.55]) - sum(rows) / 4)
    assert float(balance.information(routing_of(PROBS))) == pytest.approx(wanted, abs=1e-6)


def test_information_about_the_task_by_hand() -> None:
    given = (entropy([0.7, 0.3]) + entropy([0.2, 0.8])) / 2
    found = balance.information(routing_of(PROBS, Context(task=TASK)), about="task")
    assert float(found) == pytest.approx(-(entropy([0.45, 0.55]) - given), abs=1e-6)


def test_information_is_whole_where_each_task_has_its_expert_and_none_where_all_are_alike() -> None:
    own = torch.eye(2)[TASK]
    assert float(balance.information(routing_of(own, Context(task=TASK)), "task")) == pytest.approx(
        -math.log(2)
    )
    alike = torch.full((4, 2), 0.5)
    for about in ("task", "token"):
        assert float(balance.information(routing_of(alike, Context(task=TASK)), about)) == pytest.approx(0)


def test_masked_tokens_tell_nothing() -> None:
    mask = torch.tensor([True, False, True, True])
    for about in ("task", "token"):
        masked = balance.information(routing_of(PROBS, Context(task=TASK), mask), about)
        alone = balance.information(routing_of(PROBS[mask], Context(task=TASK[mask])), about)
        torch.testing.assert_close(masked, alone)


def test_training_on_it_gives_each_task_experts_of_its_own() -> None:
    torch.manual_seed(0)
    layer = MoE(TopK(4, 4, k=1), experts.Copy(4))
    task = torch.arange(200) % 2
    x = torch.randn(200, 4) + 6 * task[:, None] - 3
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        with record(layer) as routings:
            layer(x, Context(task=task))
        balance.information(routings, "task").backward()
        optimizer.step()
    chosen = layer.router(x).dense_weight() > 0
    first, second = chosen[task == 0].float().mean(0), chosen[task == 1].float().mean(0)
    assert float((first * second).sum()) < 0.05


def test_several_gates_count_as_rows_of_their_own() -> None:
    layer = MoE(MultiGate(4, 3, gates=2), experts.Copy(3))
    with record(layer) as routings:
        layer(torch.randn(6, 4), Context(task=torch.arange(6) % 2))
    (routing,) = routings[""]
    probs, task = routing.probs.flatten(0, 1), (torch.arange(6) % 2).repeat_interleave(2)
    plain = routing_of(probs, Context(task=task))
    torch.testing.assert_close(balance.information(routing, "task"), balance.information(plain, "task"))


def test_information_wants_the_field() -> None:
    with pytest.raises(ValueError, match=r"needs context\.domain"):
        balance.information(routing_of(PROBS, Context(task=TASK)), "domain")


def test_concentration_is_1_when_even_and_0_at_one_expert() -> None:
    assert float(balance.concentration(routing_of(torch.eye(4)))) == pytest.approx(1)
    assert float(balance.concentration(routing_of(torch.eye(4)[[1, 1, 1]]))) == pytest.approx(0, abs=1e-6)
