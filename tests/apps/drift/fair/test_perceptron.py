"""A perceptron that is trained as the mixture is."""

import pytest
import torch

from apps.drift.fair.fairness import parity_gap
from apps.drift.fair.perceptron import FairPerceptron
from apps.drift.streams import FEW_REFERRALS
from tests.apps.drift.fair.test_linear import learn, rows


def made(**options: object) -> FairPerceptron:
    torch.manual_seed(0)
    model = FairPerceptron(hidden=8, **options)
    model.build(8, 2)
    return model


def test_raising_the_weight_lowers_the_gap() -> None:
    stream = rows(FEW_REFERRALS, 3200)
    gaps, hits = [], []
    for weight in (0.0, 2.0):
        predicted = torch.cat([one.probs for one in learn(made(weight=weight), stream)]).argmax(1)[1600:]
        gaps.append(parity_gap(predicted.numpy(), stream[2][1600:].numpy()))
        hits.append(float((predicted == stream[1][1600:]).float().mean()))
    assert hits[0] > 0.8
    assert gaps[1] < 0.5 * gaps[0]


def test_what_it_says_of_rows_is_what_it_said_before_it_learned_them() -> None:
    stream = rows(FEW_REFERRALS, 320)
    model = made()
    learn(model, stream)
    x = stream[0][:16]
    before = model(x)
    found = model.learn(x, *(part[:16] for part in stream[1:]))
    torch.testing.assert_close(found.probs, before)
    torch.testing.assert_close(found.probs.sum(1), torch.ones(16))
    assert found.trust.shape == (16, 1)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="this stream has 3"):
        FairPerceptron(hidden=4).build(4, 3)
    with pytest.raises(ValueError, match="boundary of a perceptron"):
        FairPerceptron(hidden=4, measure="burden")
