"""Arms that are tried and not tested, that are another arm, or that run fewer seeds."""

import pytest

from apps.common.compare import compare
from apps.common.compare.results import read_results

pytestmark = pytest.mark.slow

PROFILE = "profiles: {quick: {data: [coins], seeds: 3, budget: {units: 40}, "


def _compared(toy, arms: str):
    toy.config.write_text(f"{PROFILE}{arms}}}}}")
    compare("toy")
    return read_results(toy.results)


def test_what_is_tried_has_its_scores_on_record_and_its_test_split_closed(toy):
    results = _compared(toy, "arms: [routed, constant], tried: [dense_active]")
    assert {row["arm"] for row in results["rows"]} == {"routed", "constant"}
    choices = {choice["arm"]: choice for choice in results["choices"]}
    assert [trial["validation"] for trial in choices["dense_active"]["trials"]] == [1.5, 0.5]
    assert not [cell for cell in toy.noted("test") if "dense_active" in cell]
    assert {entry["arm"] for entry in results["tested"]} == {"routed", "constant"}


def test_an_arm_that_is_another_is_fitted_once_for_both(toy):
    results = _compared(toy, "arms: [routed, twin, constant]")
    assert not [cell for cell in toy.noted("fit") if "twin" in cell]
    assert len([cell for cell in toy.noted("fit") if "routed" in cell]) == 2 + 3
    found = {arm: [row for row in results["rows"] if row["arm"] == arm] for arm in ("routed", "twin")}
    assert [row["value"] for row in found["twin"]] == [row["value"] for row in found["routed"]]
    twin = [interval for interval in results["intervals"] if interval["arm"] == "twin"]
    assert {interval["difference"] for interval in twin} == {0.0}
    compare("toy", data="coins")
    assert read_results(toy.results)["rows"] == results["rows"]


def test_a_slow_arm_is_paired_with_as_many_seeds_of_the_routed_one(toy):
    results = _compared(toy, "arms: [routed, slow, constant]")
    assert {row["seed"] for row in results["rows"] if row["arm"] == "slow"} == {0, 1}
    slow = next(
        i for i in results["intervals"] if (i["arm"], i["slice"], i["metric"]) == ("slow", "all", "miss")
    )
    assert slow["seeds"] == 2
    assert slow["difference"] == pytest.approx(-0.5)
