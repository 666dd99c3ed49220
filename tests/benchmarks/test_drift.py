"""Speed and memory of the learners of streams: what is measured, and how it is told."""

import pickle
from typing import Any

import pytest
import torch

from apps.common.compare.places import config_file
from apps.common.compare.profile import read_profile
from apps.common.compare.schema import Results
from apps.drift.compare import arms
from apps.drift.comparison.learners import Network, River
from benchmarks.drift import PAGE, megabytes, run_of, tables

PROFILE = read_profile(config_file("drift"), "full")
LEARNERS = {
    name: arm for name in PROFILE.arms if isinstance(arm := arms(PROFILE.budget)[name], Network | River)
}


def test_the_page_shows_what_the_file_holds() -> None:
    assert PAGE.path.read_text(encoding="utf-8") == PAGE.fresh()


@pytest.mark.parametrize("name", list(LEARNERS))
def test_a_learner_that_has_run_can_be_written_out_and_goes_on_alike(name: str) -> None:
    learner = run_of(LEARNERS[name], "sea_a", 300)()
    assert 0 < megabytes(learner) < 50
    again = pickle.loads(pickle.dumps(learner))
    if isinstance(LEARNERS[name], Network):
        x = torch.rand(5, learner.features)
        torch.testing.assert_close(again(x), learner(x))
    else:
        row = {"x0": 1.0, "x1": 5.0, "x2": 3.0}
        assert again.predict_proba_one(row) == learner.predict_proba_one(row)


def test_every_call_begins_anew() -> None:
    run = run_of(LEARNERS["hoeffding_tree"], "sea_a", 300)
    first, second = run(), run()
    assert first is not second
    assert megabytes(first) == pytest.approx(megabytes(second), rel=0.01)


def test_the_table_tells_ratios_to_the_adaptive_random_forest() -> None:
    def row(arm: str, data: str, value: float, memory: float) -> dict[str, Any]:
        return {"arm": arm, "data": data, "value": value, "peak_memory_mb": memory}

    rows = [row("arf", "sea_a", 100.0, 2.0), row("routed", "sea_a", 300.0, 1.0)]
    told = {"environment": {"cpu": "some", "torch": "2"}, "commit": "0" * 40, "command": "make"}
    lines = tables(Results(rows=rows, **told)).splitlines()
    assert lines[0] == "| learner | sea_a, rows/s | sea_a, MB |"
    assert lines[2:4] == ["| arf | 100 (1.00) | 2 (1.00) |", "| routed | 300 (3.00) | 1 (0.50) |"]
