"""The arms of the comparison: what they may know when they predict, and what is measured of them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
import yaml

from apps.common.compare.arms import check_outcome
from apps.common.discovery import project_root
from apps.drift import compare
from apps.drift.comparison.learners import Network
from apps.drift.comparison.measured import Measured
from apps.drift.comparison.moa import as_numbers
from apps.drift.data import Data
from apps.drift.experts.trees import Trees
from apps.drift.memory import Memory

PROFILES = yaml.safe_load((project_root() / "configs/drift/compare.yaml").read_text())["profiles"]
BUDGET = {**PROFILES["full"]["budget"], "rows": 300}
ARMS = [arm for arm in compare.arms(BUDGET) if arm != "moa_arf"]
JAVA = pytest.param("moa_arf", marks=pytest.mark.skipif(shutil.which("java") is None, reason="no Java here"))


def streams(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Data]:
    """A stream of the comparison whose labels were changed."""

    def build(name: str, rows: int, seed: int, cycles: None = None) -> Data:
        data = Data(name=name, rows=rows, seed=seed, window=1)
        read = data.read
        data.read = lambda: (lambda table, y, group: (table, change(y), group))(*read())
        data.setup()
        return data

    return build


def test_every_arm_of_the_profiles_exists() -> None:
    for profile in PROFILES.values():
        assert set(profile["arms"]) <= set(compare.arms(profile["budget"]))


@pytest.mark.parametrize("name", [*ARMS, JAVA])
def test_an_arm_is_measured_and_knows_no_label_before_it_predicts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all labels from a row on are others, what was said up to that row is the same."""
    arm, row = compare.arms(BUDGET)[name], 208
    module = f"apps.drift.comparison.{'moa' if name == 'moa_arf' else 'learners'}.stream"
    said = []
    for change in (lambda y: y, lambda y: torch.where(torch.arange(len(y)) < row, y, 1 - y)):
        monkeypatch.setattr(module, streams(change))
        fitted = arm.fit("sea_a", dict(arm.trials[0]), 0)
        said.append(fitted.predicted[100 : row + 1])
        outcome = fitted.test()
        check_outcome(outcome)
        values = {value.metric: value.value for value in outcome.values}
        assert ("instances_per_second" in values) == (name not in ("majority", "no_change"))
    assert len(said[0]) == row - 100 + 1
    assert (said[0] == said[1]).all()
    assert len(set(said[0].tolist())) == (1 if name == "majority" else 2)


@pytest.mark.parametrize("name", ["routed", "trees_diverse", "driftmoe_data"])
def test_another_seed_draws_all_anew_on_the_same_stream(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arm, rows = compare.arms(BUDGET)[name], Data(name="sea_a", rows=300, window=1)
    rows.setup()
    assert isinstance(arm, Network)
    networks = [arm.run(rows, arm.trials[0], seed)[0] for seed in (0, 0, 1)]
    drawn = [
        [int(m.seed) for m in network.modules() if isinstance(m, Memory | Trees)] for network in networks
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0]


def test_early_rows_choose_and_later_rows_test() -> None:
    label = np.array([0, 1] * 450)
    predicted = label.copy()
    predicted[:30] = 1 - predicted[:30]
    predicted[800:] = 1 - predicted[800:]
    fitted = Measured(label, predicted, drifts=[100, 600], width=0)
    assert fitted.validation == pytest.approx(30 / 300)
    assert fitted.drifts == [300]
    outcome = fitted.test()
    accuracy = {value.metric: value.value for value in outcome.values}["accuracy"]
    assert accuracy == pytest.approx(500 / 600)
    units, weights = outcome.units["all", "accuracy"], outcome.weights["all", "accuracy"]
    assert units.tolist() == [1.0, 0.0]
    assert weights.tolist() == [500, 100]


def test_a_drift_that_is_never_got_over_has_cost_all_rows_to_the_next() -> None:
    label = np.zeros(6000, dtype=int)
    predicted = label.copy()
    predicted[3000:4500] = 1
    fitted = Measured(label, predicted, drifts=[3000, 4500], width=0)
    values = {value.metric: value.value for value in fitted.test().values}
    back = 500  # rows of the window, all of which must be right again
    assert values["recovery_rows"] == (1500 + back) / 2


def test_words_are_told_by_their_place_and_gaps_stay_gaps() -> None:
    rows = [{"a": 1, "b": "y"}, {"a": None, "b": "x"}, {"a": 2.5, "b": None}, {"b": "y"}]
    x, levels = as_numbers(rows)
    assert levels == {"b": ["x", "y"]}
    wanted = np.array([[1, 1], [np.nan, 0], [2.5, np.nan], [np.nan, 1]])
    np.testing.assert_array_equal(x, wanted)


def test_without_java_its_forest_is_refused_in_one_sentence() -> None:
    fit = "from apps.drift.comparison.moa import MoaForest; MoaForest({'rows': 300}, 10).fit('sea_a', {}, 0)"
    without = {**os.environ, "JAVA_HOME": "/nonexistent"}
    ended = subprocess.run([sys.executable, "-c", fit], env=without, capture_output=True, text=True)
    assert ended.returncode
    assert "UserError: the arm moa_arf needs a Java runtime" in ended.stderr.splitlines()[-1]
