"""Some of a profile's data sets measured again, the others kept."""

import pytest

from apps.common.compare import compare
from apps.common.compare.page import render
from apps.common.compare.results import read_results
from apps.common.errors import UserError

pytestmark = pytest.mark.slow

MEASURED = ("rows", "intervals", "choices", "data")


def test_set_by_set_gives_what_all_at_once_gives(toy):
    path = toy.results.with_name("toy.json")
    compare("toy", "full", data="dice")
    first = read_results(path)
    assert first["unmeasured"] == ["coins"]
    assert list(first["data"]) == ["dice"]
    assert "**Not measured yet**: coins." in render(first, None)
    compare("toy", "full", data="coins")
    both = read_results(path)
    assert [run["data"] for run in both["earlier"]] == [["dice"]]
    assert both["earlier"][0]["cpu_hours"] == first["cpu_hours"]
    assert "dice: " in render(both, None)
    assert "unmeasured" not in both
    assert all(entry["current"] for entry in both["tested"])
    fitted = len(toy.noted("fit"))
    compare("toy", "full")
    whole = read_results(path)
    assert len(toy.noted("fit")) == fitted
    assert "earlier" not in whole
    assert [both[key] for key in MEASURED] == [whole[key] for key in MEASURED]
    assert both["tested"] == whole["tested"]


@pytest.mark.parametrize("change", ["units: 60 -> units: 50", "constant] -> constant, dense_active]"])
def test_a_set_that_was_measured_with_another_profile_is_not_kept(toy, change, capsys):
    compare("toy", "full")
    before, after = change.split(" -> ")
    quick, full = toy.config.read_text().split("  full: ")
    assert before in full
    toy.config.write_text(f"{quick}  full: {full.replace(before, after)}")
    compare("toy", "full", data="coins")
    results = read_results(toy.results.with_name("toy.json"))
    assert results["unmeasured"] == ["dice"]
    assert {row["data"] for row in results["rows"]} == {"coins"}
    assert "not measured with the profile as it is now: dice" in capsys.readouterr().out


def test_a_set_that_the_profile_lacks_is_refused(toy):
    with pytest.raises(UserError, match="--data names 'cards': profile full has coins, dice"):
        compare("toy", "full", data="coins,cards")
    assert toy.notes == []
