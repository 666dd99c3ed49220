"""Speed of the rankers and recommenders: what is measured, and how it is told."""

from functools import partial
from typing import Any

import pytest
import torch

from apps.common.compare.places import config_file
from apps.common.compare.profile import read_profile
from apps.common.compare.schema import Results
from benchmarks import recsys
from benchmarks.recsys import METRICS, PAGE, PEERS, PROFILES, calls, contenders, tables


def test_the_page_shows_what_the_file_holds() -> None:
    assert PAGE.path.read_text(encoding="utf-8") == PAGE.fresh()


@pytest.mark.parametrize("name", PROFILES)
def test_each_network_of_a_profile_is_timed_once_beside_its_peer(name: str) -> None:
    profile = read_profile(config_file("recsys"), name)
    found = contenders(profile)
    assert {"routed", "dense_total", PEERS[name]} <= set(found) <= set(profile.arms)
    assert not {"random_router", "gbdt", "popularity"} & set(found)


@pytest.mark.parametrize(
    ("name", "arm"), [("full", "routed"), ("full", "rechub_ple"), ("sequences", "routed")]
)
def test_a_step_moves_the_weights_and_answers_are_of_many_and_of_one(
    name: str, arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recsys, "MANY", dict.fromkeys(PROFILES, 8))
    found = calls(name, arm)
    assert list(found) == list(METRICS)
    train = found["train_per_second"]
    assert isinstance(train, partial)
    network = train.args[0]
    before = [p.clone() for p in network.parameters()]
    train()
    assert any(not torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))
    many, one = found["answers_per_second"](), found["latency_ms"]()
    assert isinstance(many, torch.Tensor)
    assert isinstance(one, torch.Tensor)
    assert many.shape == (8, one.shape[1])
    torch.testing.assert_close(many[:1], one, rtol=1e-4, atol=1e-5)


def test_the_tables_tell_ratios_to_the_peer_of_each_profile() -> None:
    def row(data: str, arm: str, value: float) -> list[dict[str, Any]]:
        return [
            {"data": data, "arm": arm, "metric": metric, "value": value, "peak_memory_mb": 2.0}
            for metric in METRICS
        ]

    rows = [*row("full", "rechub_mmoe", 10.0), *row("full", "routed", 5.0), *row("sequences", "sasrec", 4.0)]
    told = {"environment": {"cpu": "some", "torch": "2"}, "commit": "0" * 40, "command": "make"}
    lines = tables(Results(rows=rows, **told)).splitlines()
    assert "| network | training, rows/s | answers, rows/s | a single one, ms | peak of a step, MB |" in lines
    assert "| routed | 5 (0.50) | 5 (0.50) | 5 (0.50) | 2 (1.00) |" in lines
    assert "| sasrec | 4 (1.00) | 4 (1.00) | 4 (1.00) | 2 (1.00) |" in lines
