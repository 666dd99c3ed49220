"""Load, violation, entropy and mutual information against hand-computed values."""

import math

import pytest
import torch
from collegium import Context, Routing, inspection
from collegium.routers import AllExperts, Hash, TopK


def sent_to(chosen: list[int], num_experts: int, mask: torch.Tensor | None = None) -> Routing:
    index = torch.tensor(chosen)[:, None]
    return Routing.from_topk(index, torch.ones_like(index).float(), num_experts, mask=mask)


def test_load_is_the_share_of_assignments_over_calls() -> None:
    calls = {"a": [sent_to([0, 0, 1], 4), sent_to([3], 4)], "b": [sent_to([2], 3)], "never called": []}
    load = inspection.load(calls)
    assert {name: share.tolist() for name, share in load.items()} == {
        "a": [0.5, 0.25, 0, 0.25],
        "b": [0, 0, 1],
    }


def test_load_counts_what_capacity_dropped() -> None:
    routing = sent_to([0, 0, 0, 1], 2).with_capacity(1)
    assert inspection.load({"": [routing]})[""].tolist() == [0.75, 0.25]


def test_load_of_nobody_is_zero() -> None:
    mask = torch.zeros(2, dtype=torch.bool)
    assert inspection.load({"": [sent_to([0, 1], 2, mask)]})[""].tolist() == [0, 0]


def test_max_violation_by_hand() -> None:
    assert inspection.max_violation(torch.tensor([0.5, 0.25, 0.0, 0.25])) == 1.0
    assert inspection.max_violation(torch.full((5,), 0.2)) == pytest.approx(0, abs=1e-6)
    assert inspection.max_violation(torch.tensor([0.0, 1.0, 0.0])) == pytest.approx(2)
    assert inspection.max_violation(torch.zeros(3)) == 0


def test_experts_that_every_token_has_do_not_hide_the_others() -> None:
    """Of ten tokens all have expert 0; experts 1 to 3 have 9, 1 and 0 of them: a mean of 10 / 3."""
    chosen = torch.tensor([1] * 9 + [2])
    index = torch.stack([torch.zeros_like(chosen), chosen], 1)
    routing = Routing.from_topk(index, torch.ones(10, 2), 4)
    load = inspection.load({"": [routing]})[""]
    assert inspection.max_violation(load) == pytest.approx(1)  # expert 0's, whatever the others do
    assert inspection.max_violation(load, fixed=1) == pytest.approx(1.7)
    assert inspection.max_violation(load, fixed=4) == 0
    assert inspection.dead_experts(load, 0.35) == [2, 3]  # below 1.75 of 10 tokens
    assert inspection.dead_experts(load, 0.25, fixed=1) == [3]  # below 0.83


def test_dead_experts_by_hand() -> None:
    load = torch.tensor([0.5, 0.0, 0.002, 0.498])  # the even share is 0.25
    assert inspection.dead_experts(load) == [1, 2]
    assert inspection.dead_experts(load, below=0.008) == [1]
    assert inspection.dead_experts(load, below=2.0) == [1, 2, 3]
    assert inspection.dead_experts(torch.zeros(3)) == []


def test_entropy_is_1_when_undecided_and_0_when_sure() -> None:
    sure, torn = torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 4), 0.25)
    for probs, wanted in ((sure, 0), (torn, 1), (torch.cat([sure, torn]), 0.5)):
        assert inspection.entropy(Routing.dense(probs, probs=probs)) == pytest.approx(wanted, abs=1e-6)
    half = torch.tensor([[0.5, 0.5, 0, 0]])
    assert inspection.entropy(Routing.dense(half, probs=half)) == pytest.approx(math.log(2) / math.log(4))


def test_entropy_of_one_expert_and_of_nobody_is_0() -> None:
    x, nobody = torch.randn(4, 3), Context(mask=torch.zeros(4, dtype=torch.bool))
    assert inspection.entropy(AllExperts(3, 1)(x)) == 0
    assert inspection.entropy(TopK(3, 2)(x, nobody)) == 0


def test_mutual_information_is_1_when_the_expert_tells_the_label() -> None:
    label = torch.arange(60) % 4
    assert inspection.mutual_information(sent_to([3, 1, 0, 2] * 15, 5), label) == pytest.approx(1)
    routing = Hash(3, 64)(torch.randn(60, 3), Context(label=label))
    assert inspection.mutual_information(routing, label) == pytest.approx(1)


def test_mutual_information_is_0_when_it_does_not() -> None:
    label = torch.tensor([0, 0, 1, 1])
    assert inspection.mutual_information(sent_to([0, 1, 0, 1], 2), label) == pytest.approx(0, abs=1e-9)
    assert inspection.mutual_information(sent_to([1] * 4, 2), label) == pytest.approx(0, abs=1e-9)
    assert inspection.mutual_information(sent_to([0, 1, 0, 1], 2), torch.zeros_like(label)) == 0


def test_mutual_information_by_hand() -> None:
    # joint (expert, label): (0,0) 1/2, (1,0) 1/4, (1,1) 1/4
    found = inspection.mutual_information(sent_to([0, 0, 1, 1], 2), torch.tensor([0, 0, 0, 1]))
    h_label = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    h_given = 0.5 * math.log(2)
    assert found == pytest.approx((h_label - h_given) / h_label)


def test_mutual_information_leaves_masked_tokens_out() -> None:
    mask = torch.tensor([True, False, True, False])
    assert inspection.mutual_information(
        sent_to([0, 1, 1, 0], 2, mask), torch.tensor([0, 0, 1, 1])
    ) == pytest.approx(1)


@pytest.mark.parametrize("label", [torch.zeros(3), torch.zeros(4), torch.tensor([0, -1, 0, 0])])
def test_labels_that_are_no_labels_are_refused(label: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"label must be \(4,\) integers of at least 0"):
        inspection.mutual_information(sent_to([0, 1, 0, 1], 2), label)
