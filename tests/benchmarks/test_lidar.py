"""Speed and memory of the estimators of lifetimes and depths: what is measured, and how it is told."""

from typing import Any

import pytest
import torch

from apps.common.compare.places import config_file
from apps.common.compare.profile import read_profile
from apps.common.compare.schema import Results
from benchmarks.lidar import ALIKE, PAGE, TESTED, call, drawn, tables

PROFILE = read_profile(config_file("lidar"), "full")


def test_the_page_shows_what_the_file_holds() -> None:
    assert PAGE.path.read_text(encoding="utf-8") == PAGE.fresh()


@pytest.mark.parametrize("name", [name for name in PROFILE.arms if name not in ALIKE])
def test_every_estimator_is_asked_for_the_same_histograms(name: str) -> None:
    data = drawn(6, PROFILE.budget)
    found: Any = call(name, PROFILE.budget, data)()
    assert found.value.shape == (6, 2)
    truth = data.part("test").truth
    assert found.truth.tolist() == torch.stack([truth.depth, truth.lifetime], dim=1).tolist()


def test_an_estimate_can_be_timed_with_its_test() -> None:
    found: Any = call(TESTED, PROFILE.budget, drawn(6, PROFILE.budget))()
    assert ((found >= 0) & (found <= 1)).all()
    assert found.shape == (6,)


def test_the_table_tells_ratios_to_the_convolutional_network() -> None:
    def row(arm: str, metric: str, value: float) -> dict[str, Any]:
        return {"arm": arm, "metric": metric, "value": value, "peak_memory_mb": value / 10}

    names = ("histograms_per_second", "latency_ms")
    rows = [row(arm, name, value) for arm, value in (("cnn", 100.0), ("routed", 300.0)) for name in names]
    told = {"environment": {"cpu": "some", "torch": "2"}, "commit": "0" * 40, "command": "make"}
    lines = tables(Results(rows=rows, **told)).splitlines()
    assert lines[0] == "| estimator | histograms/s | a single one, ms | peak, MB |"
    assert lines[3] == "| routed | 300 (3.00) | 300 (3.00) | 30 (3.00) |"
