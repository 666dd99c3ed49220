"""The fair comparison: how a setting is judged, what opens the later rows, and every arm of the profile."""

from typing import Any

import numpy as np
import pytest
import torch
import yaml

from apps.common.compare.arms import check_outcome
from apps.common.discovery import project_root
from apps.drift import compare
from apps.drift.comparison.fair import MeasuredFairness, Prequential, Table, early_rows, stream
from apps.drift.comparison.fair_arms import ByRule, Chunks, FairArm
from apps.drift.data import Data
from apps.drift.fair.fairness import gaps
from apps.drift.metrics import FLOORS, majority
from apps.drift.model import Found

ROWS, BLOCK = 900, 100
PROFILES = yaml.safe_load((project_root() / "configs/drift/compare.yaml").read_text())["profiles"]
BUDGET = {**PROFILES["fair"]["budget"], "rows": ROWS, "block": BLOCK}


def test_the_arms_of_the_fair_profile_are_of_those_that_are_tested_here() -> None:
    assert set(PROFILES["fair"]["arms"]) <= set(PROFILES["fair_drift"]["arms"])


@pytest.fixture(scope="module")
def hiring() -> Data:
    return stream("hiring", ROWS)


class Told(Prequential):
    """Says what it was told to say."""

    def __init__(self, data: Data, predicted: np.ndarray) -> None:
        super().__init__(data)
        self.predicted = predicted

    def step(self, end: int) -> Table:
        return {"predicted": self.predicted[self.at : end]}


def measured(data: Data, predicted: np.ndarray, reference: float) -> MeasuredFairness:
    return MeasuredFairness(Told(data, predicted), "parity", reference, {"block": BLOCK, "slack": 0.01})


def test_the_score_is_the_gap_of_what_is_accurate_enough(hiring: Data) -> None:
    label, group = hiring.y.numpy(), hiring.group.numpy()
    early = slice(BLOCK, ROWS // 3)
    gap = gaps({"label": label[early], "predicted": label[early], "group": group[early]})["parity"]
    assert measured(hiring, label, 1.0).validation == pytest.approx(gap)
    flawed = label.copy()
    flawed[early.start : early.start + 2] = 1 - flawed[early.start : early.start + 2]  # 2 of 200 are wrong
    assert measured(hiring, flawed, 1.0).validation < 1
    worse, worst = flawed.copy(), 1 - label
    worse[early.start + 2] = 1 - worse[early.start + 2]
    scores = [measured(hiring, one, 1.0).validation for one in (flawed, worse, worst)]
    assert scores == sorted(scores)
    assert scores[1] > 1
    first = np.concatenate([1 - label[:BLOCK], label[BLOCK:]])  # the first block does not count
    assert measured(hiring, first, 1.0).validation == pytest.approx(gap)


def test_the_later_rows_are_measured_by_hand(hiring: Data) -> None:
    predicted = np.arange(ROWS) % 2
    outcome = measured(hiring, predicted, 0.0).test()
    check_outcome(outcome)
    found = {value.metric: value.value for value in outcome.values}
    rows = slice(ROWS // 3, None)
    label, group = hiring.y.numpy()[rows], hiring.group.numpy()[rows]
    assert found["accuracy"] == pytest.approx((label == predicted[rows]).mean())
    expected = gaps({"label": label, "predicted": predicted[rows], "group": group})
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert next(value.metric for value in outcome.values) == "parity"
    assert {place[1] for place in outcome.units} == set(found)


@pytest.mark.parametrize("name", PROFILES["fair_drift"]["arms"])
def test_no_arm_sees_a_label_before_it_predicts_it_and_none_the_later_rows(name: str, hiring: Data) -> None:
    pytest.importorskip("fairlearn")
    arm = compare.arms(BUDGET)[name]
    assert isinstance(arm, FairArm)
    end = ROWS // 3
    learners = [arm.learner(data, dict(arm.trials[-1]), 0) for data in (hiring, stream("hiring", ROWS))]
    known_together = getattr(learners[0], "chunk", 1 if name in FLOORS else BLOCK)
    first = (end - 20) // known_together * known_together
    other = learners[1].data
    other.y = torch.cat([hiring.y[:first], 1 - hiring.y[first:]])
    other.x = torch.cat([hiring.x[:end], 0 * hiring.x[end:]])
    said = [said_by(learner) for learner in learners]
    told = len(said[0]) - (end - first) + known_together
    assert np.array_equal(said[0][:told], said[1][:told])
    if isinstance(learners[0], Chunks):  # a step on the other labels changes what is said by some bits
        assert not np.array_equal(said[0][told:], said[1][told:])


def said_by(learner: Prequential) -> np.ndarray:
    """Of the early rows: probabilities where it gives any, else classes."""
    if not isinstance(learner, Chunks):
        return early_rows(learner, BLOCK)["predicted"]
    probs: list[torch.Tensor] = []
    learn = learner.network.learn

    def heard(*given: Any) -> Found:
        found = learn(*given)
        probs.append(found.probs.clone())
        return found

    learner.network.learn = heard  # type: ignore[method-assign]
    early = early_rows(learner, BLOCK)
    return torch.cat(probs).numpy()[-len(early["predicted"]) :]


@pytest.mark.parametrize("name", PROFILES["fair_drift"]["arms"])
def test_every_arm_gives_an_outcome_that_holds(name: str) -> None:
    pytest.importorskip("fairlearn")
    arm = compare.arms(BUDGET)[name]
    fitted = arm.fit("hiring", dict(arm.trials[0]), 0)
    outcome = fitted.test()
    check_outcome(outcome)
    found = {value.metric: value.value for value in outcome.values}
    assert {"parity", "odds", "accuracy", "balanced_accuracy"} <= set(found)
    assert ("burden" in found) == (name in LINEAR)
    assert all(value.higher_is_better == ("accuracy" in value.metric) for value in outcome.values)
    if name not in FLOORS:
        assert found["accuracy"] > 0.55
        assert outcome.cost.total_params is not None


LINEAR = {"routed", "one_expert", "random_router", "no_growth", "no_penalty", "logistic", "logistic_recent"}


def test_a_frozen_router_stays_as_drawn_while_the_experts_learn(hiring: Data) -> None:
    arm = compare.arms(BUDGET)["random_router"]
    assert isinstance(arm, FairArm)
    learner = arm.learner(hiring, {}, 0)
    assert isinstance(learner, Chunks)
    before = {name: value.clone() for name, value in learner.network.named_parameters()}
    learner.run(160)
    moved = {
        name for name, value in learner.network.named_parameters() if not torch.equal(value, before[name])
    }
    assert moved
    assert not any("router" in name for name in moved)


def test_a_trial_changes_the_model_or_its_rate(hiring: Data) -> None:
    arm = compare.arms(BUDGET)["routed"]
    assert isinstance(arm, FairArm)
    trial: dict[str, Any] = {"weight": 0.7, "sharpness": 3.0, "learning_rate": 0.5}
    learner = arm.learner(hiring, trial, seed=4)
    assert isinstance(learner, Chunks)
    objective = learner.network.objective
    assert (objective.weight, objective.sharpness, learner.network.seed) == (0.7, 3.0, 4)
    assert learner.optimizer.param_groups[0]["lr"] == 0.5


def test_the_floor_is_the_most_frequent_label_so_far(hiring: Data) -> None:
    learner = ByRule(hiring, majority)
    said = np.concatenate([learner.run(end)["predicted"] for end in (100, 500)])
    assert np.array_equal(said, majority(hiring.y.numpy())[:500])
