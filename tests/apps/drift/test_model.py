"""Mixtures on a stream: what they trust, what they learn, and that no label leaks."""

from functools import partial

import pytest
import torch
from collegium import routers
from torch import Tensor

from apps.drift.experts import Bayes, Neighbours, Perceptrons, Recent
from apps.drift.gate import Even, Frozen, Trust
from apps.drift.memory import Memory
from apps.drift.model import StreamModel, StreamMoE
from apps.drift.published import DriftMoEData, DriftMoETask, right_ones
from apps.drift.router import Watching

D, C = 4, 3
SMALL = (
    partial(Neighbours, memories=(50,)),
    partial(Bayes, memories=(50,)),
    Recent,
    partial(Perceptrons, hidden=(8,)),
)


def two_regimes(count: int = 600, seed: int = 0) -> tuple[Tensor, Tensor]:
    """One rule, and from half-way on its opposite."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, D, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    y[count // 2 :] = 1 - y[count // 2 :]
    return x, y


def built(model: StreamModel, classes: int = C) -> StreamModel:
    torch.manual_seed(0)
    model.build(D, classes)
    return model


def run(model: StreamModel, x: Tensor, y: Tensor, chunk: int = 16, rate: float = 3e-3) -> Tensor:
    """Predictions (N,), each made before its label was learned."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, rate) if trained else None
    said = []
    for first in range(0, len(x), chunk):
        part = slice(first, first + chunk)
        found = model.learn(x[part], y[part])
        said.append(found.probs.argmax(1))
        if optimizer is not None and found.loss.requires_grad:
            optimizer.zero_grad()
            found.loss.backward()
            optimizer.step()
    return torch.cat(said)


MODELS = {
    "ours": partial(StreamMoE, SMALL),
    "data": partial(DriftMoEData, num_experts=4),
    "task": DriftMoETask,
}


@pytest.mark.parametrize("name", list(MODELS))
def test_it_learns_a_rule_and_its_opposite(name: str) -> None:
    x, y = two_regimes(1200)
    hits = (run(built(MODELS[name](), 2), x, y, chunk=8, rate=1e-2) == y).float()
    assert hits[400:600].mean() > 0.8
    if name == "ours":
        assert hits[900:].mean() > 0.85


@pytest.mark.parametrize("name", list(MODELS))
def test_labels_that_hang_on_nothing_are_not_guessed(name: str) -> None:
    x, _ = two_regimes(800)
    y = torch.randint(0, 2, (800,), generator=torch.Generator().manual_seed(5))
    assert abs((run(built(MODELS[name](), 2), x, y) == y).float().mean() - 0.5) < 0.06


@pytest.mark.parametrize("name", list(MODELS))
def test_a_label_changes_no_prediction_up_to_its_own_row(name: str) -> None:
    x, y = two_regimes(200)
    other = y.clone()
    other[150:] = 1 - other[150:]
    one, two = (run(built(MODELS[name](), 2), x, labels, 8, 3e-2) for labels in (y, other))
    assert torch.equal(one[:151], two[:151])
    assert not torch.equal(one[151:], two[151:])


def test_the_mixture_is_the_experts_word_by_trust() -> None:
    x, y = two_regimes(64)
    model = built(StreamMoE(SMALL))
    for first in range(0, 64, 16):
        found = model.learn(x[first : first + 16], y[first : first + 16])
        mixed = torch.einsum("be,bec->bc", found.trust, found.said)
        torch.testing.assert_close(found.probs, mixed / mixed.sum(1, keepdim=True), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.trust.sum(1), torch.ones(16))
    assert model.expert_names == ["neighbours 50", "bayes 50", "recent 1", "recent 100", "perceptron 8"]


def test_the_router_comes_to_trust_who_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, D, generator=generator)
    y = torch.arange(600) // 50 % 2
    model = built(StreamMoE((Recent, partial(Bayes, memories=(0,)))), 2)
    run(model, x, y)
    trust = model.mixture.router(x[:8]).dense_weight().mean(0)
    assert trust.argmax() == 0
    assert trust[0] > 0.6


def test_a_prediction_alone_changes_nothing() -> None:
    x, y = two_regimes(64)
    model = built(StreamMoE(SMALL))
    run(model, x, y)
    model.eval()
    with torch.no_grad():
        before = model(x)
        torch.testing.assert_close(model(x), before)
    torch.testing.assert_close(before.sum(1), torch.ones(64))


@pytest.mark.parametrize(
    "router", [routers.TopK, partial(routers.TopK, k=2), routers.TopP, routers.AllExperts]
)
def test_any_causal_router_fits(router: object) -> None:
    x, y = two_regimes(80)
    model = built(StreamMoE(SMALL, router=router))
    assert len(run(model, x, y)) == 80


def test_routers_that_look_ahead_or_mix_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="not causal"):
        built(StreamMoE(SMALL, router=routers.ExpertChoice))
    with pytest.raises(ValueError, match=r"slots|assigns tokens|causal"):
        run(built(StreamMoE(SMALL, router=routers.SoftSlots)), *two_regimes(16))


def test_even_and_frozen_gates_do_not_learn() -> None:
    x, y = two_regimes(80)
    for gate in (Even, Frozen):
        model = built(StreamMoE(SMALL, router=partial(routers.AllExperts, gate=gate)))
        before = {name: p.clone() for name, p in model.mixture.router.named_parameters()}
        run(model, x, y)
        assert all(torch.equal(p, before[name]) for name, p in model.mixture.router.named_parameters())
    even = built(StreamMoE(SMALL, router=partial(routers.AllExperts, gate=Even)))
    torch.testing.assert_close(even.learn(x[:16], y[:16]).trust, torch.full((16, 5), 0.2))


def test_records_are_faded_means() -> None:
    watching = Watching(D, 2, partial(routers.AllExperts, gate=Trust), memories=(4, 10))
    said = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.5, 0.5]], [[0.1, 0.9], [1.0, 0.0]]])
    y = torch.tensor([0, 1, 1])
    watching.watch(said[:2], y[:2])
    watching.watch(said[2:], y[2:])
    for speed, memory in enumerate((4, 10)):
        for expert in range(2):
            sure = share = 0.0
            for row in range(3):
                chance = max(float(said[row, expert, y[row]]), 0.01)
                sure += (torch.tensor(chance).log().item() - sure) / memory
                share += (float(said[row, expert].argmax() == y[row]) - share) / memory
            found = watching.record[expert, 2 * speed : 2 * speed + 2].tolist()
            assert found == pytest.approx([sure, share], abs=1e-5)


def test_trust_begins_with_the_record() -> None:
    gate = Trust(D + 8, 2, memories=2, trust=3.0)
    token = torch.zeros(1, D + 8)
    token[0, D:] = torch.tensor([-1.0, 0.5, -2.0, 0.25, -1.0, 0.0, -1.0, 0.0])
    assert gate(token, None, None).tolist() == [[3.0 * 0.75, 0.0]]


def test_no_experts_record_speaks_against_another() -> None:
    """Whatever a gate has learned, a better record lifts the scores of others by nothing."""
    torch.manual_seed(0)
    gate = Trust(D + 12, 3, memories=2)
    for p in gate.parameters():
        torch.nn.init.normal_(p)
    token = torch.randn(5, D + 12)
    better = token.clone()
    better[:, D + 4 : D + 8] += 1.0
    change = gate(better, None, None) - gate(token, None, None)
    torch.testing.assert_close(change[:, [0, 2]], torch.zeros(5, 2))
    torch.testing.assert_close(change[:, 1], gate.record_weight.sum().expand(5))
    elsewhere = token.clone()
    elsewhere[:, :D] += 1.0
    assert (gate(elsewhere, None, None) != gate(token, None, None)).all()


def test_after_a_drift_rows_of_before_it_are_shown_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the detector has told of it; while nothing changes, all that is remembered is shown."""
    shown: list[int] = []
    draw = Memory.draw

    def watched(memory: Memory, count: int, last: int | None = None) -> tuple[Tensor, Tensor]:
        assert last is not None
        shown.append(min(last, int(memory.seen)))
        return draw(memory, count, last)

    monkeypatch.setattr(Memory, "draw", watched)
    x, y = two_regimes(4000)
    run(built(StreamMoE(SMALL), 2), x, y)
    before, after = 2000 // 16, 2600 // 16
    assert shown[before - 1] == 1984  # all rows whose errors are known
    assert shown[after] < 1000
    assert min(shown[60:]) >= 300


def test_a_memory_holds_the_last_rows() -> None:
    memory = Memory(1, 5)
    for first in range(0, 12, 3):
        numbers = torch.arange(first, first + 3)
        memory.keep(numbers[:, None].float(), numbers)
    x, y = memory.draw(200)
    assert set(y.tolist()) == {7, 8, 9, 10, 11}
    assert torch.equal(x[:, 0].long(), y)
    assert torch.equal(memory.draw(200)[1], y)
    assert Memory(1, 5).draw(3)[0].shape == (0, 1)
    torch.manual_seed(3)
    other = Memory(1, 5)
    other.keep(*memory.last(5))
    torch.manual_seed(3)
    same = Memory(1, 5)
    same.load_state_dict(other.state_dict())
    assert torch.equal(same.draw(50)[0], other.draw(50)[0])
    assert not torch.equal(memory.draw(50)[0], other.draw(50)[0])


def test_of_none_right_the_nearest_counts() -> None:
    said = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.9, 0.1]], [[0.1, 0.9], [0.2, 0.8]]])
    assert right_ones(said, torch.tensor([0, 1, 1])).tolist() == [[1, 0], [1, 0], [1, 1]]


def test_moe_data_predicts_by_its_first_choice_and_teaches_three() -> None:
    x, y = two_regimes(96)
    model = built(DriftMoEData(num_experts=5, k=3), 2)
    shown = [0] * 5
    for first in range(0, 96, 32):
        part = slice(first, first + 32)
        logits = model.logits(x[part])
        for expert in logits.topk(3).indices.flatten().tolist():
            shown[expert] += 1
        found = model.learn(x[part], y[part])
        chosen = found.said[torch.arange(32), logits.argmax(1)]
        torch.testing.assert_close(found.probs, chosen)
    weights = [tree.summary["total_observed_weight"] for _, tree in model.mixture.experts.trees]
    assert weights == shown
    assert sum(shown) == 3 * 96


def test_moe_task_is_its_router_alone() -> None:
    x, y = two_regimes(64)
    model, other = built(DriftMoETask(), 2), built(DriftMoETask(), 2)
    found = model.learn(x, y)
    torch.testing.assert_close(found.probs, other.logits(x).softmax(1))
    votes = found.said
    assert votes.shape == (64, 2, 2)
    torch.testing.assert_close(votes.sum(2), torch.ones(64, 2))


def test_what_was_learned_survives_a_checkpoint() -> None:
    x, y = two_regimes(160)
    for name, make in MODELS.items():
        one, two = built(make(), 2), built(make(), 2)
        with torch.no_grad():
            run(one, x[:80], y[:80])
        two.load_state_dict(one.state_dict())
        found = [model.learn(x[80:96], y[80:96]) for model in (one, two)]
        torch.testing.assert_close(found[0].probs, found[1].probs, msg=name)
        assert float(found[0].loss) == pytest.approx(float(found[1].loss))
