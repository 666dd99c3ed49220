"""Speed and memory of what labels points: what is measured, and how it is told."""

from typing import Any

import numpy as np
import pytest

from apps.common.compare.places import config_file
from apps.common.compare.profile import read_profile
from apps.common.compare.schema import Results
from apps.pointcloud.simulate import KINDS, simulate
from benchmarks.pointcloud import ALIKE, KIND, PAGE, PEER, TITLES, calls, labeller, tables

PROFILE = read_profile(config_file("pointcloud"), "full")


def test_the_page_shows_what_the_file_holds() -> None:
    assert PAGE.path.read_text(encoding="utf-8") == PAGE.fresh()


@pytest.mark.parametrize("name", [name for name in PROFILE.arms if name not in ALIKE])
def test_all_points_of_a_scan_get_a_class_with_features_known_or_not(name: str) -> None:
    cloud = simulate(KIND, 0)
    cloud = cloud.take(np.arange(0, len(cloud), 8))
    budget = {**PROFILE.budget, "trials": {PEER: [{"trees": 5, "leaf": 5}]}}
    timed: dict[str, Any] = calls(labeller(name, budget, cloud), cloud)
    assert set(timed) == set(TITLES)
    whole, on_grid = (call() for call in timed.values())
    assert len(whole) == len(cloud)
    assert np.array_equal(whole, on_grid)
    assert set(np.unique(whole)) <= set(range(len(KINDS[KIND].classes)))
    if name == PEER:
        assert cloud.label is not None
        assert (whole == cloud.label).mean() > 0.5  # it was grown on them


def test_the_table_tells_ratios_to_the_forest() -> None:
    def row(arm: str, metric: str, value: float) -> dict[str, Any]:
        return {"arm": arm, "metric": metric, "value": value, "peak_memory_mb": value / 10}

    rows = [row(arm, name, value) for arm, value in ((PEER, 100.0), ("routed", 300.0)) for name in TITLES]
    told = {"environment": {"cpu": "some", "torch": "2"}, "commit": "0" * 40, "command": "make"}
    lines = tables(Results(rows=rows, **told)).splitlines()
    assert lines[0] == "| labelled by | points/s | points/s, features known | peak, MB |"
    assert lines[3] == "| routed | 300 (3.00) | 300 (3.00) | 30 (3.00) |"
