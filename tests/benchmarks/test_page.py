"""The committed tables are those of the committed figures."""

import pytest
import torch
from collegium import routers
from collegium.testing import exported

from apps.common.compare.results import read_results
from benchmarks.grid import FULL, Point
from benchmarks.page import PAGE, RESULTS, by_point, means, tables
from benchmarks.parts import PARTS, shares
from benchmarks.routers import POINTS, ROUTERS, TOPK, Layer, experts_a_token


def test_the_page_shows_what_the_file_holds() -> None:
    assert PAGE.path.read_text(encoding="utf-8") == PAGE.fresh()


def test_the_file_covers_the_whole_grid() -> None:
    points = by_point(read_results(RESULTS))
    assert set(points) == set(FULL)
    assert all({"dense", "floor", "collegium", "loop"} <= set(ratios) for ratios in points.values())


def test_means_are_geometric_and_want_every_point() -> None:
    points = [{"a": (1.0, 2.0), "b": (1.0, 1.0)}, {"a": (4.0, 8.0)}]
    assert means(points, "a") == pytest.approx((2.0, 4.0))
    assert means(points, "b") is None
    assert means([], "a") is None


def test_best_peer_is_the_fastest_of_others_at_each_point_and_mode() -> None:
    ratios = {
        "dense": (1, 1),
        "floor": (0.5, 0.5),
        "collegium": (0.9, 0.9),
        "loop": (3, 2),
        "st_moe_pytorch": (2, 4),
    }
    rows = [
        {"data": "N1024-d64-E4-k2", "slice": "all", "arm": arm, "metric": f"ratio_{mode}", "value": value}
        for arm, pair in ratios.items()
        for mode, value in zip(("forward", "forward_backward"), pair, strict=True)
    ]
    rows += [
        {
            "data": "N1024-d64-E4-k2",
            "slice": "all",
            "arm": "dense",
            "metric": f"seconds_{mode}",
            "value": 0.001,
        }
        for mode in ("forward", "forward_backward")
    ]
    rows += [
        {"data": "N1024-d64-E4-k2", "slice": "routers", "arm": arm, "metric": metric, "value": value}
        for arm, value in (("TopK", 1.0), ("Base", 3.0))
        for metric in ("ratio_forward", "ratio_forward_backward", "experts_a_token")
    ]
    rows += [
        {"data": "N1024-d64-E4-k2", "slice": "parts", "arm": part, "metric": "share_of_dense", "value": 0.25}
        for part in PARTS
    ]
    rows = [{**row, "peak_memory_mb": None} for row in rows]
    left_out = {"N1024-d64-E4-k2": {"mixture_of_experts": "is shy"}}
    results = {
        "rows": rows,
        "budget": {"rounds": 3, "left_out": left_out},
        "environment": {"cpu": "abacus", "torch": "2"},
        "commit": "c0ffee",
        "created": "2026-01-01",
        "command": "make bench",
    }
    assert by_point(results)[Point(1024, 64, 4, 2)]["best peer"] == (2, 2)
    text = tables(results)
    assert "| N1024-d64-E4-k2 | 512 | 1.0 / 1.0 | 0.50 / 0.50 | 0.90 / 0.90 | 3.00 / 2.00 |" in text
    assert text.count("| collegium |") > 0
    assert "| Base | 3.0 | 3.00 / 3.00 | looks at all tokens in training" in text
    assert "| N1024-d64-E4-k2 | 0.25 | 0.25 |" in text
    assert "mixture of experts: left out of 1 points; it is shy." in text


def test_every_router_is_timed_and_every_difference_has_a_reason_or_none() -> None:
    assert set(ROUTERS) == set(exported(routers, routers.Router)) - {"GatedRouter"}
    assert ROUTERS[TOPK].reason == ""


@pytest.mark.parametrize("name", ROUTERS)
def test_a_router_runs_at_the_points_where_it_is_timed(name: str) -> None:
    small = Point(1024, 8, POINTS[0].experts, 2)
    layer, x = Layer(name, small), torch.randn(1, 1024, 8)
    assert layer(x).shape == x.shape
    assert 0.5 < experts_a_token(layer, x) <= small.experts


def test_parts_add_up_to_the_layer() -> None:
    found = shares(Point(1024, 16, 4, 2), rounds=2)
    assert set(found) == set(PARTS)
    assert found["experts"] > 0.3
