"""Speed of the forecasters: what is measured, and how it is told."""

from typing import Any

import pytest
import torch

from apps.common.compare.places import config_file
from apps.common.compare.profile import read_profile
from apps.common.compare.schema import Results
from apps.timeseries.comparison.contenders import build
from benchmarks.timeseries import METRICS, PAGE, PEER, batch, calls, contenders, tables

BUDGET: dict[str, Any] = {
    "context": 32,
    "horizons": [8, 16],
    "networks": {"dlinear": {}, "ridge_moe": {"mixture": {"num_experts": 2}, "options": {"dim": 8}}},
}


def test_the_page_shows_what_the_file_holds() -> None:
    assert PAGE.path.read_text(encoding="utf-8") == PAGE.fresh()


@pytest.mark.parametrize("name", list(BUDGET["networks"]))
def test_a_training_step_moves_the_weights_and_forecasts_are_of_the_longest_horizon(name: str) -> None:
    found = calls(name, BUDGET)
    assert list(found) == list(METRICS)
    network, _, data = found["train_windows_per_second"].args
    before = [p.clone() for p in network.parameters()]
    found["train_windows_per_second"]()
    assert any(not torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))
    assert found["forecast_windows_per_second"]().shape == (len(data["context"]), 16)
    assert found["latency_ms"]().shape == (1, 16)


def test_windows_are_one_series_each() -> None:
    data = batch(3, 10, 4)
    assert data["context"].shape == (3, 10)
    assert data["target"].shape == (3, 4)
    assert data["group"].tolist() == [0, 1, 2]


def test_the_table_tells_ratios_to_patchtst() -> None:
    def row(arm: str, metric: str, value: float, memory: float | None) -> dict[str, Any]:
        return {"arm": arm, "metric": metric, "value": value, "peak_memory_mb": memory}

    rows = [row("patchtst", metric, 10.0, 80.0) for metric in METRICS]
    rows += [row("dlinear", metric, 25.0, 20.0) for metric in METRICS]
    told = {"environment": {"cpu": "some", "torch": "2"}, "commit": "0" * 40, "command": "make"}
    lines = tables(Results(rows=rows, **told)).splitlines()
    assert lines[2] == "| patchtst | 10 (1.00) | 10 (1.00) | 10 (1.00) | 80 (1.00) |"
    assert lines[3] == "| dlinear | 25 (2.50) | 25 (2.50) | 25 (2.50) | 20 (0.25) |"


def test_every_network_of_the_full_profile_can_be_built() -> None:
    profile = read_profile(config_file("timeseries"), "full")
    found = contenders(profile)
    assert {PEER, "moirai_moe", "ridge_moe"} <= set(found)
    for name in found:
        assert sum(p.numel() for p in build(name, profile.budget, "routed", {}).parameters()) > 0
