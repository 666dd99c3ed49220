"""SlotRouting: the other form of a routing, and how balance terms read it."""

import torch
from collegium import Context, MoE, Routing, balance, experts, record
from collegium.routers import SoftSlots
from collegium.segments import Segments
from collegium.slots import SlotRouting, as_routing
from collegium.testing import check_routing


def slots(mask: torch.Tensor | None = None) -> SlotRouting:
    x = torch.zeros(3, 1)
    out_of = torch.tensor([[[0.1, 0.2], [0.3, 0.4]], [[0.5, 0.0], [0.25, 0.25]], [[0.0, 0.0], [0.5, 0.5]]])
    context = Context(mask=mask)
    return SlotRouting(torch.full((3, 2, 2), 1 / 3), out_of, Segments.of(x, context), mask, context)


def test_an_experts_share_is_that_of_all_its_slots() -> None:
    routing = slots().as_routing()
    check_routing(routing)
    wanted = torch.tensor([[0.3, 0.7], [0.5, 0.5], [0.0, 1.0]])
    torch.testing.assert_close(routing.dense_weight(), wanted)
    torch.testing.assert_close(routing.probs, wanted)
    assert routing.counts == 3


def test_masked_tokens_have_no_share() -> None:
    given = slots(torch.tensor([True, False, True]))
    routing = given.as_routing()
    check_routing(routing)
    torch.testing.assert_close(routing.dense_weight(), torch.tensor([[0.3, 0.7], [0.0, 0.0], [0.0, 1.0]]))
    assert routing.demand.tolist() == [2, 2]
    assert routing.context is given.context


def test_sizes_are_those_of_the_shares() -> None:
    assert (slots().num_tokens, slots().num_experts) == (3, 2)


def test_either_form_is_read_as_assignments() -> None:
    routing = Routing.dense(torch.ones(3, 2) / 2)
    assert as_routing(routing) is routing
    assert isinstance(as_routing(slots()), Routing)


def test_balance_terms_read_slots() -> None:
    layer = MoE(SoftSlots(4, 3, slots=2), experts.MLP(4, 3, hidden=5))
    with record(layer) as routings:
        layer(torch.randn(2, 5, 4))
    torch.testing.assert_close(balance.load_balance(routings), torch.tensor(1.0))
    assert 0 < balance.entropy(routings) <= torch.tensor(3.0).log() + 1e-6


def test_slots_print_their_sizes() -> None:
    assert repr(slots()) == "SlotRouting(tokens=3, experts=2, slots=2, segments=1)"
    assert repr(slots(torch.tensor([True, False, True]))).endswith(", segments=1, mask)")
