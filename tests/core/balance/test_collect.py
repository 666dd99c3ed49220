"""One form for what a balance term is given."""

import torch
from collegium import Context
from collegium.balance.collect import each, logits_of, named, probs_of
from collegium.routers import TopK

ROUTER = TopK(4, 3)


def test_names_come_from_the_record_and_are_empty_elsewhere() -> None:
    one, other = ROUTER(torch.randn(5, 4)), ROUTER(torch.randn(5, 4))
    assert named({"a": [one], "b": [other, one]}) == [("a", one), ("b", other), ("b", one)]
    assert named(one) == [("", one)]
    assert each([one, other]) == [one, other]


def test_scores_are_those_of_real_tokens() -> None:
    x, mask = torch.randn(5, 4), torch.tensor([True, False, True, True, False])
    routing = ROUTER(x, Context(mask=mask))
    assert torch.equal(probs_of(routing), routing.probs[mask])
    assert torch.equal(logits_of(routing), routing.logits[mask])
    assert torch.equal(probs_of(ROUTER(x)), routing.probs)
