"""Pages: what the tables say, by hand, and where they are put."""

import copy
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from apps.common.compare import refresh_pages
from apps.common.compare.markers import fill
from apps.common.compare.page import render
from apps.common.compare.picture import draw
from apps.common.compare.refresh import stale_pages
from apps.common.compare.summary import line
from apps.common.compare.view import View
from apps.common.errors import UserError

PAGE = Path("page.md")
MEANS = {"routed": 0.4, "dense_active": 0.41, "dense_total": 0.39, "mean": 1.5}
INTERVALS = {"dense_active": (0.005, 0.015), "dense_total": (-0.02, 0.01), "mean": (1.0, 1.2)}


def _row(arm, seed, slice_, metric, value, higher):
    unseeded = arm == "mean"
    return {
        "data": "coins", "slice": slice_, "arm": arm, "seed": seed, "metric": metric, "value": value,
        "higher_is_better": higher, "active_params": None if unseeded else 1_234_567,
        "total_params": None if unseeded else 9_876, "active_flops": None, "train_seconds": 2.0 + seed,
        "peak_memory_mb": 100.0,
    }  # fmt: skip


def _interval(arm, slice_, metric, sign, seeds=5):
    low, high = INTERVALS[arm]
    low, high = (low, high) if sign > 0 else (-high, -low)
    return {
        "data": "coins", "slice": slice_, "metric": metric, "arm": arm, "against": "routed",
        "difference": sign * (MEANS[arm] - 0.4), "low": low, "high": high, "seeds": seeds, "units": 40,
        "beyond": seeds >= 5 and (low > 0 or high < 0),
    }  # fmt: skip


def _results(seeds=5, profile="quick"):
    measured = [("all", "loss", 1), ("all", "gain", -1), ("96", "loss", 1), ("192", "loss", 1)]
    rows = [
        _row(arm, seed, slice_, metric, sign * mean, sign < 0)
        for arm, mean in MEANS.items()
        for seed in range(1 if arm == "mean" else seeds)
        for slice_, metric, sign in measured
    ]
    intervals = [_interval(arm, *place, seeds) for arm in INTERVALS for place in measured]
    opened = [{"seed": 0, "at": "2026-01-01T00:00:00.000+00:00"}]
    head, environment = "0123456789abcdef-modified", {"cpu": "Abacus", "cores": 2}
    entry = {"data": "coins", "arm": "routed", "configuration": "c", "times": 16, "last": opened[0]["at"]}
    return {
        "app": "toy", "profile": profile, "created": "2026-01-02T03:04:05+00:00", "commit": head,
        "command": "make compare APP=toy PROFILE=quick", "environment": environment,
        "code": {"now": "n", "cells": {"n": 30, "o": 2}}, "data": {"coins": "c0ffee" * 10}, "seeds": seeds,
        "budget": {}, "cpu_hours": 1.234, "rows": rows, "intervals": intervals, "choices": [],
        "tested": [
            {**entry, "current": True, "openings": opened},
            {**entry, "current": False, "times": 3, "openings": []},
        ],
    }  # fmt: skip


def _lines(results):
    return [line for line in render(results, "x.svg").splitlines() if line.startswith("|")]


def test_the_page_tells_what_was_chosen_on_validation():
    results = _results()
    trial = {"trial": {"rate": 1}, "validation": 0.25}
    scored = [("routed", "coins", [trial, {"trial": {}, "validation": 0.5}]), ("tried", "dice", [trial])]
    results["choices"] = [
        {"data": data, "arm": arm, "seeded": True, "trials": trials, "chosen": {}}
        for arm, data, trials in [*scored, ("mean", "coins", [{"trial": {}, "validation": None}])]
    ]
    text = render(results, None)
    assert "| arm | coins | dice |\n| --- | --- | --- |\n| routed | 0.25 | - |\n| tried | - | 0.25 |" in text
    assert "Scores on validation" not in render(results, None, slices=False)


def test_the_main_table_by_hand():
    head, _, routed, active, total, mean = _lines(_results())[:6]
    assert head == (
        "| arm | loss | loss: difference to routed | gain | gain: difference to routed "
        "| active / total parameters | training, s | seeds |"
    )
    assert routed == "| routed | 0.4000 | - | -0.4000 | - | 1.2M / 9.9k | 4.0 | 5 |"
    assert active == (
        "| dense_active | 0.4100 | +0.0100 [+0.0050, +0.0150] routed better "
        "| -0.4100 | -0.0100 [-0.0150, -0.0050] routed better | 1.2M / 9.9k | 4.0 | 5 |"
    )
    assert "| 0.3900 | -0.0100 [-0.0200, +0.0100] no difference shown |" in total
    assert mean.endswith("| - / - | 2.0 | 1 |")


def test_of_many_metrics_the_later_ones_have_their_verdict_alone(monkeypatch):
    monkeypatch.setattr("apps.common.compare.tables.FULL", 1)
    head, _, routed, active = _lines(_results())[:4]
    assert head.startswith("| arm | loss | loss: difference to routed | gain | active")
    assert routed == "| routed | 0.4000 | - | -0.4000 | 1.2M / 9.9k | 4.0 | 5 |"
    assert "routed better | -0.4100 (routed better) |" in active


def test_a_loss_is_said_like_a_win():
    results = _results()
    for interval in results["intervals"]:
        interval["difference"], interval["low"], interval["high"] = (
            -interval["difference"], -interval["high"], -interval["low"],
        )  # fmt: skip
    active = _lines(results)[3]
    assert "-0.0100 [-0.0150, -0.0050] routed worse" in active
    assert "+0.0100 [+0.0050, +0.0150] routed worse" in active
    mirrored = render(results, "x.svg").count("routed worse")
    assert mirrored == render(_results(), "x.svg").count("routed better")


def test_slices_stand_beside_each_other():
    table = _lines(_results())[6:]
    assert table[0] == "| loss | 96 (40 test units) | 192 (40 test units) |"
    assert table[3] == "| dense_active | 0.4100 (routed better) | 0.4100 (routed better) |"
    assert len(table) == 6


def test_the_summary_counts_verdicts_by_hand():
    results = _results()
    control = {"arm": "random_router"}
    results["rows"] += [{**row, **control} for row in results["rows"] if row["arm"] == "dense_active"]
    order = ["routed", "dense_active", "dense_total", "random_router", "mean"]
    results["rows"].sort(key=lambda row: order.index(row["arm"]))
    of_active = [entry for entry in results["intervals"] if entry["arm"] == "dense_active"]
    results["intervals"] += [{**entry, **control} for entry in of_active]
    (view,) = View.each(results)
    cells = ["coins", "loss", "0.4000", "dense_total 0.3900", "2 / 1 / 0", "mean 1.5000", "1 / 0 / 0"]
    assert line(view) == cells
    for row in results["rows"]:
        row["higher_is_better"] = not row["higher_is_better"]
    assert line(view)[3:] == ["dense_active 0.4100", "0 / 1 / 2", "mean 1.5000", "0 / 0 / 1"]


def test_the_summary_leaves_out_the_routed_arm_under_its_other_name_and_arms_of_few_seeds():
    results = _results()
    for entry in results["intervals"]:
        if entry["arm"] == "dense_active":
            entry.update(difference=0.0, low=0.0, high=0.0, beyond=False)
        if entry["arm"] == "mean":
            entry["seeds"] = 3
    (view,) = View.each(results)
    assert line(view)[3:] == ["-", "-", "dense_total 0.3900", "0 / 1 / 0"]


def test_in_brief_there_are_no_slices():
    text, brief = render(_results(), "x.svg"), render(_results(), "x.svg", slices=False)
    assert "by slice" in text
    assert "by slice" not in brief
    assert set(brief.splitlines()) < set(text.splitlines())


def test_too_few_seeds_claim_nothing():
    text = render(_results(seeds=4), "x.svg")
    assert "With fewer than 5 seeds nothing is claimed" in text
    tables = "\n".join(_lines(_results(seeds=4)))
    assert "too few seeds" in tables
    assert "routed better" not in tables
    assert "no difference shown" not in tables


def test_the_page_says_how_it_was_made():
    text = render(_results(), "pictures/x.svg")
    assert text.startswith("**Quick profile**")
    assert not render(_results(profile="full"), "x.svg").startswith("**Quick")
    for part in (
        "Profile quick, 5 seeds, 1.23 CPU-hours on Abacus (2 cores), commit `0123456789-modified`, "
        "2026-01-02, `make compare APP=toy PROFILE=quick`.",
        "coins `c0ffeec0ffee`",
        "Test splits were opened 16 times for these 16 fits, and 3 times for other configurations.",
        "2 of 32 cells were run by an earlier state of the code.",
        "(pictures/x.svg)",
    ):
        assert part in text


def test_an_arm_without_a_metric_has_an_empty_place():
    results = _results()
    results["rows"] = [row for row in results["rows"] if (row["arm"], row["metric"]) != ("mean", "gain")]
    results["intervals"] = [i for i in results["intervals"] if (i["arm"], i["metric"]) != ("mean", "gain")]
    assert "| - | - | - / - | 2.0 | 1 |" in _lines(results)[5]


def test_the_picture_is_small_valid_and_the_same_each_time():
    results = _results()
    results["rows"] += [{**row, "data": "dice"} for row in results["rows"]]
    results["intervals"] += [{**interval, "data": "dice"} for interval in results["intervals"]]
    picture = draw(results)
    assert draw(copy.deepcopy(results)) == picture
    assert len(picture.encode()) < 100_000
    texts = {"".join(element.itertext()) for element in ElementTree.fromstring(picture).iter()}
    titles = {f"{data}: loss of the arm minus routed (lower is better)" for data in ("coins", "dice")}
    assert texts >= {*titles, "dense_active", "dense_total", "mean"}
    assert "+1.1" in texts, "an arm far away is drawn at the edge, with its number"


def test_text_is_put_between_the_markers_and_nowhere_else():
    text = (
        "before\n<!-- results:toy:quick:begin -->\nold\n<!-- results:toy:quick:end -->\nbetween\n"
        "<!-- results:toy:full:begin -->\n<!-- results:toy:full:end -->\nafter\n"
    )
    filled = fill(PAGE, text, lambda app, profile: f"new \\1 {app} {profile}")
    assert filled == (
        "before\n"
        "<!-- results:toy:quick:begin -->\n\nnew \\1 toy quick\n\n<!-- results:toy:quick:end -->\n"
        "between\n"
        "<!-- results:toy:full:begin -->\n\nnew \\1 toy full\n\n<!-- results:toy:full:end -->\nafter\n"
    )
    assert fill(PAGE, filled, lambda app, profile: f"new \\1 {app} {profile}") == filled
    assert fill(PAGE, "none\n", lambda app, profile: "new") == "none\n"


@pytest.mark.parametrize(
    "words",
    [
        ["quick:begin"],
        ["quick:end"],
        ["quick:begin", "full:end"],
        ["quick:begin", "quick:begin", "quick:end"],
    ],
)
def test_a_marker_without_its_partner_is_refused(words):
    text = "\n".join(f"<!-- results:toy:{word} -->" for word in words)
    with pytest.raises(UserError, match=r"page\.md: a results marker has no partner"):
        fill(PAGE, text, lambda app, profile: "new")


def _write_pages(toy) -> dict[str, Path]:
    block = "<!-- results:toy:quick:begin -->\n<!-- results:toy:quick:end -->\n"
    places = {"top": toy.root / "README.md", "site": toy.root / "docs" / "apps" / "toy.md"}
    pages = {**places, "app": toy.folder / "toy" / "README.md"}
    for page in pages.values():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"# Page\n\n{block}")
    return pages


def test_every_page_is_refreshed_with_the_address_of_the_picture_as_seen_from_it(compared):
    pages = _write_pages(compared)
    refresh_pages()
    found = {name: re.findall(r"\]\((.*\.svg)\)", page.read_text()) for name, page in pages.items()}
    assert found == {
        "top": ["docs/results/toy-quick.svg"],
        "site": ["../results/toy-quick.svg"],
        "app": [],
    }
    assert (compared.root / "docs" / "results" / "toy-quick.svg").exists()
    assert stale_pages() == {}


def test_a_page_changed_by_hand_is_stale_until_it_is_refreshed(compared):
    page = _write_pages(compared)["top"]
    refresh_pages()
    right = page.read_text()
    page.write_text(right.replace("| constant |", "| constant! |"))
    assert list(stale_pages()) == [page]
    refresh_pages()
    assert page.read_text() == right


def test_a_place_without_results_says_so(toy):
    page = _write_pages(toy)["top"]
    refresh_pages()
    assert "No results yet: `make compare APP=toy PROFILE=quick` writes them." in page.read_text()


def test_a_bad_result_file_leaves_every_page_as_it_was(compared):
    page = _write_pages(compared)["top"]
    results = json.loads(compared.results.read_text())
    del results["commit"]
    compared.results.write_text(json.dumps(results))
    before = page.read_text()
    with pytest.raises(UserError, match=r"toy-quick\.json: the file lacks the key commit"):
        refresh_pages()
    assert page.read_text() == before


def test_an_unknown_profile_is_refused(toy):
    (toy.root / "README.md").write_text("<!-- results:toy:fast:begin -->\n<!-- results:toy:fast:end -->\n")
    with pytest.raises(
        UserError, match=r"README\.md has a marker of the profile fast: use one of quick, full"
    ):
        refresh_pages()
