"""FEAMOE on simulated hiring: what the penalty does, how it grows, and how it is saved."""

import io
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from apps.common.discovery import project_root
from apps.common.errors import UserError
from apps.drift.experts.unpickle import to_bytes
from apps.drift.fair.fairness import Measure, burden_gap, odds_gap, parity_gap
from apps.drift.fair.linear import FEAMOE
from apps.drift.fair.room import ABSENT
from apps.drift.model import Found
from apps.drift.streams import BY_EXPERIENCE, BY_SKILL, FEW_REFERRALS, Concept

CHUNK = 16
Rows = tuple[Tensor, Tensor, Tensor]


def rows(concept: Concept, count: int, seed: int = 0) -> Rows:
    table = list(islice(concept(seed), count))
    x = torch.tensor([[value for name, value in row.items() if name != "group"] for row, _ in table])
    return x, torch.tensor([y for _, y in table]), torch.tensor([int(row["group"]) for row, _ in table])


def made(**options: Any) -> FEAMOE:
    torch.manual_seed(0)
    model = FEAMOE(**options)
    model.build(8, 2)
    return model


def learn(model: FEAMOE, stream: Rows, rate: float = 1e-2) -> list[Found]:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    found = []
    for x, y, group in zip(*(part.split(CHUNK) for part in stream), strict=True):
        found.append(model.learn(x, y, group))
        optimizer.zero_grad()
        found[-1].loss.backward()
        optimizer.step()
    return found


def joined(*streams: Rows) -> Rows:
    x, y, group = (torch.cat(parts) for parts in zip(*streams, strict=True))
    return x, y, group


@pytest.fixture(scope="module")
def drifting() -> Rows:
    return joined(rows(BY_SKILL, 1600), rows(BY_EXPERIENCE, 800, seed=1))


@pytest.fixture(scope="module")
def grown(drifting: Rows) -> FEAMOE:
    model = made()
    learn(model, drifting)
    return model


@pytest.mark.parametrize("measure", ["parity", "odds", "burden"])
def test_raising_the_weight_lowers_the_gap(measure: Measure) -> None:
    stream = rows(FEW_REFERRALS, 4000)
    gaps = []
    for weight in (0.0, 1.0):
        found = learn(made(measure=measure, weight=weight), stream)[125:]
        predicted = torch.cat([one.probs for one in found]).argmax(1).numpy()
        distance = torch.cat([one.notes["distance"] for one in found]).numpy()
        label, group = (part[2000:].numpy() for part in stream[1:])
        gaps.append(
            {
                "parity": parity_gap(predicted, group),
                "odds": odds_gap(predicted, label, group),
                "burden": burden_gap(predicted, group, distance),
            }[measure]
        )
    assert gaps[1] < 0.5 * gaps[0]


def test_without_groups_it_learns_by_log_loss_alone() -> None:
    stream = rows(BY_SKILL, 320)
    unknown = (stream[0], stream[1], torch.full((320,), -1))
    losses = [learn(made(weight=weight), unknown)[-1].loss for weight in (0.0, 5.0)]
    assert torch.equal(*losses)
    blind = made(weight=5.0)
    found = blind.learn(*stream[:2])
    assert torch.equal(found.loss, made(weight=5.0).learn(*unknown).loss)


def test_a_prediction_is_made_before_its_label_is_seen() -> None:
    stream = rows(BY_SKILL, 640)
    flipped = (stream[0], torch.cat([stream[1][:-CHUNK], 1 - stream[1][-CHUNK:]]), stream[2])
    first, other = (learn(made(), one)[-1] for one in (stream, flipped))
    assert torch.equal(first.probs, other.probs)
    assert not torch.equal(first.loss, other.loss)


def test_it_grows_when_errors_rise_and_is_better_for_it(grown: FEAMOE, drifting: Rows) -> None:
    ((row, why),) = grown.changes()
    assert 1600 < row < 2000
    assert why == "errors"
    assert len(grown.expert_names) == int(grown.room.present.sum()) == 3
    accuracy = []
    for most in (2, 8):
        found = learn(made(most=most), drifting)[-25:]  # the last 400 rows
        predicted = torch.cat([one.probs for one in found]).argmax(1)
        accuracy.append((predicted == drifting[1][-400:]).float().mean())
    assert accuracy[1] > accuracy[0] + 0.05


def test_it_grows_when_groups_are_treated_less_alike() -> None:
    model = made()
    learn(model, joined(rows(BY_EXPERIENCE, 3200), rows(FEW_REFERRALS, 1600, seed=1)))
    ((row, why),) = model.changes()
    assert 3200 < row < 4800
    assert why == "fairness"


def test_it_grows_no_further_than_its_capacity(drifting: Rows) -> None:
    model = made(begin=2, most=2)
    learn(model, drifting)
    assert model.changes() == []


def test_an_expert_whose_gate_is_zero_changes_nothing(drifting: Rows) -> None:
    model = made()
    learn(model, rows(BY_SKILL, 320))
    x = drifting[0][:200]
    before = model(x)
    with torch.no_grad():
        model.experts.weight[2] = 7.0
    assert torch.equal(model(x), before)
    model.room.admit(2, ABSENT)
    assert torch.equal(model(x), before)
    model.room.admit(2, 1.0)
    assert not torch.allclose(model(x), before, atol=1e-2)


def test_growing_leaves_the_others_as_they_are_and_gives_the_newcomer_its_share() -> None:
    model = made(share=0.5)
    learn(model, rows(BY_SKILL, 640))
    recent = model.scale(model.memory.last(model.recent)[0][:, :-1])
    weight, trust = model.experts.weight.detach().clone(), model.trust(recent).detach()
    model._grow("errors")
    changed = (model.experts.weight != weight).any(1).nonzero().flatten().tolist()
    assert changed == [2]
    after = model.trust(recent).detach()
    assert 0.35 < float(after[:, 2].mean()) < 0.65
    torch.testing.assert_close(after[:, 0] / after[:, 1], trust[:, 0] / trust[:, 1])  # to one another


def test_attributions_are_those_of_the_moment_and_add_up(grown: FEAMOE, drifting: Rows) -> None:
    x = drifting[0][:50]
    told = grown.explain(x)
    z = grown.scale(x)
    logit = (grown.trust(z) * grown.experts.logits(z)).sum(1)
    torch.testing.assert_close(told.values.sum(1) + told.base, logit)
    found = grown.learn(*(part[:CHUNK] for part in drifting))
    torch.testing.assert_close(found.notes["attribution"], told.values[:CHUNK])


@pytest.mark.parametrize("cut", [1600, 1792, 2000, 2400])
def test_a_saved_model_goes_on_as_if_it_had_never_stopped(cut: int, drifting: Rows) -> None:
    stream = joined(drifting, rows(FEW_REFERRALS, 160, seed=2))
    model = made()
    learn(model, tuple(part[:cut] for part in stream))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    again = made()
    again.load_state_dict(torch.load(file, weights_only=True))
    assert again.expert_names == model.expert_names
    assert again.due == model.due
    x = stream[0][:100]
    assert torch.equal(again(x), model(x))
    rest = tuple(part[cut:] for part in stream)
    for one, other in zip(learn(model, rest), learn(again, rest), strict=True):
        assert torch.equal(one.probs, other.probs)
        assert torch.equal(one.loss, other.loss)
    assert again.changes() == model.changes() != []


def test_tensors_keep_their_shape_as_it_grows(grown: FEAMOE) -> None:
    fresh, full = (
        {name: value.shape for name, value in model.named_parameters()} for model in (made(), grown)
    )
    assert fresh == full
    assert {n: b.shape for n, b in made().named_buffers()} == {n: b.shape for n, b in grown.named_buffers()}


def test_a_state_that_asks_for_more_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        made().set_extra_state(to_bytes(np.random.default_rng))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="this stream has 3"):
        FEAMOE().build(4, 3)
    with pytest.raises(ValueError, match="begin=3 must lie between 1 and most=2"):
        FEAMOE(begin=3, most=2)
    with pytest.raises(ValueError, match="share=1"):
        FEAMOE(share=1.0)
    with pytest.raises(ValueError, match="weight of unfairness"):
        FEAMOE(weight=-1.0)
    with pytest.raises(ValueError, match="sharpness of unfairness"):
        FEAMOE(sharpness=0.0)


def test_as_it_ships_it_is_fair_again_after_a_drift_in_fairness() -> None:
    """Its gap of decisions over the last rows, beside that of the same model without a penalty."""
    file = project_root() / "configs" / "drift" / "feamoe.yaml"
    model = yaml.safe_load(file.read_text(encoding="utf-8"))["model"]
    options = {name: value for name, value in model["network"]["init_args"].items() if name != "router"}
    stream = joined(rows(BY_SKILL, 1600), rows(FEW_REFERRALS, 3200, seed=1))
    found = {}
    for weight in (options["weight"], 0.0):
        said = learn(made(**{**options, "weight": weight}), stream, model["learning_rate"])
        decided = torch.cat([one.probs for one in said[-80:]]).argmax(1)
        found[weight] = float(parity_gap(decided.numpy(), stream[2][-1280:].numpy()))
    assert found[0.0] > 0.25
    assert found[options["weight"]] < 0.12  # of 1,280 rows it is known to about 0.03
