"""Counting over batches equals counting at once."""

from dataclasses import replace

import pytest
import torch
from collegium import Context, MoE, Routing, experts, inspection, record, routers
from torch import Tensor

from apps.common import usage as module
from apps.common.usage import Usage, labels_of, sequence_of
from tests.core.devices import there


def routed(router: routers.Router, x: Tensor, **context: Tensor) -> Routing:
    layer = MoE(router, experts.MLP(router.dim, router.num_experts, hidden=4))
    with record(layer) as routings:
        layer(x, Context(**context))
    ((routing,),) = routings.values()
    return routing


def test_usage_by_hand() -> None:
    router = routers.TopK(2, 2, k=1)
    with torch.no_grad():
        router.gate.weight.copy_(torch.tensor([[50.0, 0.0], [0.0, 50.0]]))
    usage = Usage()
    usage.add([router(torch.tensor([[1.0, 0.0]] * 3)), router(torch.tensor([[0.0, 1.0]]))])
    nobody = Context(mask=torch.zeros(2, dtype=torch.bool))
    usage.add([router(torch.zeros(2, 2), nobody)])
    figures = usage.figures()
    assert (figures["load_0"], figures["load_1"], figures["max_violation"]) == (0.75, 0.25, 0.5)
    assert figures["dead_experts"] == 0
    assert figures["entropy"] == pytest.approx(0, abs=1e-6)
    assert usage.tables() == {"co_selection": [[0.75, 0], [0, 0.25]], "labels": {}}


def test_an_expert_that_nobody_chooses_is_dead() -> None:
    usage = Usage()
    usage.add([Routing.from_topk(torch.tensor([[0], [2]]), torch.ones(2, 1), 3)])
    assert usage.figures()["dead_experts"] == 1


def test_experts_that_every_token_has_do_not_hide_the_others() -> None:
    router = routers.FixedPlusRouted(2, 3, router=lambda dim, experts: routers.TopK(dim, experts, k=1))
    with torch.no_grad():
        router.router.gate.weight.copy_(torch.tensor([[50.0, 0.0], [0.0, 50.0]]))
    usage = Usage()
    usage.add([router(torch.tensor([[1.0, 0.0]] * 4))])
    figures = usage.figures()
    assert [figures[f"load_{expert}"] for expert in range(3)] == [0.5, 0.5, 0]
    assert (figures["max_violation"], figures["dead_experts"]) == (1, 1)


@pytest.mark.parametrize("router", [routers.TopK(4, 5, k=2), routers.AllExperts(4, 5)])
def test_batches_add_up_to_the_whole(router: routers.Router) -> None:
    torch.manual_seed(0)
    x, label = torch.randn(12, 6, 4), torch.randint(3, (12, 6))
    mask = torch.rand(12, 6) < 0.8
    usage = Usage()
    for batch, rows in enumerate(torch.arange(12).split(5)):
        usage.add([routed(router, x[rows], domain=label[rows], mask=mask[rows])], batch)
    whole = routed(router, x, domain=label, mask=mask)
    tables = usage.tables()
    assert torch.tensor(tables["co_selection"]) == pytest.approx(inspection.co_selection(whole), abs=1e-5)
    found = tables["labels"]["domain"]
    by_label = inspection.expert_by_label(whole, label.flatten())
    assert torch.tensor(found["table"]) == pytest.approx(by_label, rel=1e-5)
    group = torch.arange(12).repeat_interleave(6)
    wanted = inspection.specialisation(whole, label.flatten(), group, draws=200)
    assert found["value"] == pytest.approx(wanted.value)
    assert (found["low"], found["high"]) == pytest.approx((wanted.low, wanted.high), abs=0.03)
    assert found["chance"] == pytest.approx(wanted.chance, abs=0.02)


def test_the_same_row_in_two_calls_of_a_batch_is_one_sequence() -> None:
    routing = routed(routers.TopK(4, 3), torch.randn(8, 4), label=torch.arange(8) % 2)
    twice, apart = Usage(), Usage()
    twice.add([routing, routing])
    apart.add([routing])
    apart.add([routing], batch=1)
    assert len(twice.labels["label"].sample.sequence.unique()) == 8
    assert len(apart.labels["label"].sample.sequence.unique()) == 16


def test_figures_of_several_processes_are_those_of_all_their_tokens() -> None:
    first, second = (routed(routers.TopK(4, 3), torch.randn(n, 4)) for n in (30, 10))
    one, other, both = Usage(), Usage(), Usage()
    one.add([first])
    other.add([second])
    both.add([first, second])
    counted: list[Tensor] = []
    one.figures(lambda own: counted.append(own) or own)
    assert other.figures(lambda own: own + counted[0]) == pytest.approx(both.figures())


def test_figures_are_those_of_the_cpu_where_a_device_knows_no_float64() -> None:
    routing = routed(routers.TopK(4, 3), torch.randn(30, 4))
    here, far = Usage(), Usage()
    here.add([routing])
    far.add([there(routing)])
    assert far.figures() == pytest.approx(here.figures())
    assert far.tables() == here.tables()


def test_labels_below_zero_are_unknown() -> None:
    usage = Usage()
    routing = Routing.from_topk(torch.tensor([[0], [1], [1]]), torch.ones(3, 1), 2)
    with_labels = Routing(**{**vars(routing), "context": Context(task=torch.tensor([1, -1, 0]))})
    usage.add([with_labels])
    assert usage.tables()["labels"]["task"]["table"] == [[0, 1], [1, 0]]


def test_more_labels_or_experts_than_a_picture_shows_are_left_out() -> None:
    many = Usage()
    many.add([routed(routers.TopK(4, 3), torch.randn(70, 4), label=torch.arange(70))])
    assert many.tables()["labels"] == {}
    wide = Usage()
    wide.add([routed(routers.TopK(4, 65), torch.randn(6, 4), label=torch.zeros(6).long())])
    assert wide.tables() == {"labels": {}}


def test_labels_that_are_no_integers_are_passed_over() -> None:
    routing = routed(routers.TopK(4, 3), torch.randn(6, 4), label=torch.rand(6), task=torch.zeros(6).long())
    assert [name for name, _ in labels_of(routing)] == ["task"]


def test_sequences_are_rows_of_the_input_or_segments() -> None:
    router = routers.TopK(4, 3)
    assert sequence_of(routed(router, torch.randn(2, 3, 4))).tolist() == [0, 0, 0, 1, 1, 1]
    assert sequence_of(routed(router, torch.randn(3, 4))).tolist() == [0, 1, 2]
    assert sequence_of(router(torch.randn(3, 4))).tolist() == [0, 1, 2]
    segment = torch.tensor([4, 4, 7])
    assert sequence_of(routed(router, torch.randn(3, 4), segment=segment)).tolist() == [4, 4, 7]
    rows = sequence_of(routed(router, torch.randn(2, 3, 4), segment=segment.expand(2, 3)))
    assert rows.unique(return_inverse=True)[1].tolist() == [0, 0, 1, 2, 2, 3]


def test_a_long_sequence_leaves_room_for_others() -> None:
    """Two domains, a sequence each, both longer than the sample: experts tell them apart, and it shows."""
    usage = Usage()
    for domain in range(2):
        label = torch.full((3 * module.TOKENS,), domain)
        routing = Routing.from_topk(label[:, None], torch.ones(len(label), 1), 2)
        usage.add([replace(routing, context=Context(domain=label))], domain)
    assert usage.tables()["labels"]["domain"]["value"] == pytest.approx(1)


def test_specialisation_is_measured_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENS", 40)
    usage = Usage()
    for batch in range(20):
        label = torch.arange(10) % 2
        routing = Routing.from_topk(label[:, None], torch.ones(10, 1), 2)
        usage.add([replace(routing, context=Context(label=label))], batch)
    assert len(usage.labels["label"].sample.sequence) == 40
    assert usage.tables()["labels"]["label"]["value"] == pytest.approx(1)
