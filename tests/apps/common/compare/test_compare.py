"""A whole comparison of the toy app, cell by cell."""

import json

import numpy as np
import pytest

from apps.common.compare import compare
from apps.common.compare.lock import only_one
from apps.common.compare.results import read_results
from apps.common.errors import UserError

pytestmark = pytest.mark.slow

TRIALS = [f"coins/{arm}/{offset}/0" for arm in ("routed", "dense_active") for offset in (2, 1)]
FINALS = [f"coins/{arm}/1/{seed}" for arm in ("routed", "dense_active") for seed in (0, 1)] + [
    "coins/constant/0/0"
]


def test_every_trial_is_fitted_before_any_test_and_every_final_cell_is_tested_once(uninterrupted):
    assert sorted(uninterrupted.noted("fit")) == sorted(TRIALS + FINALS)
    assert sorted(uninterrupted.noted("test")) == sorted(FINALS)
    words = [word for word, _, _ in uninterrupted.notes]
    assert words[: len(TRIALS)] == ["fit"] * len(TRIALS)


def test_every_cell_has_a_process_of_its_own(uninterrupted):
    processes = [process for word, _, process in uninterrupted.notes if word == "fit"]
    assert len(set(processes)) == len(processes) == 9


def test_the_choice_is_made_on_validation_where_the_test_split_would_choose_otherwise(uninterrupted):
    choices = {choice["arm"]: choice for choice in read_results(uninterrupted.results)["choices"]}
    assert choices["routed"]["chosen"] == {"offset": 1}
    scores = [(trial["trial"], trial["validation"]) for trial in choices["routed"]["trials"]]
    assert scores == [({"offset": 2}, 2.0), ({"offset": 1}, 1.0)]
    assert choices["constant"]["trials"] == [{"trial": {}, "validation": None}]
    assert [choices[arm]["seeded"] for arm in ("routed", "constant")] == [True, False]


def test_rows_hold_what_the_arms_measured(uninterrupted):
    rows = read_results(uninterrupted.results)["rows"]
    noise = np.random.default_rng(0).normal(size=40)
    found = {(r["arm"], r["seed"], r["slice"], r["metric"]): r for r in rows}
    assert len(found) == len(rows) == 5 * 3
    assert found["routed", 1, "all", "miss"]["value"] == pytest.approx(10 - 1.01 + noise.mean())
    assert found["constant", 0, "first", "miss"]["value"] == pytest.approx(9.8 + noise[:20].mean())
    row = found["routed", 1, "all", "hits"]
    assert (row["active_params"], row["total_params"], row["active_flops"]) == (10, 40, None)
    assert row["higher_is_better"]
    assert row["train_seconds"] >= 0
    assert row["peak_memory_mb"] > 5


def test_intervals_hold_the_paired_differences(uninterrupted):
    intervals = read_results(uninterrupted.results)["intervals"]
    found = {(i["arm"], i["slice"], i["metric"]): i for i in intervals}
    assert len(found) == len(intervals) == 2 * 3
    dense = found["dense_active", "all", "miss"]
    assert (dense["difference"], dense["low"], dense["high"]) == pytest.approx((0.5, 0.5, 0.5))
    assert (dense["seeds"], dense["units"]) == (2, 40)
    assert not dense["beyond"], "two seeds are too few for a claim"
    constant = found["constant", "all", "hits"]
    assert constant["difference"] == pytest.approx(-(9.8 - (9 - 0.005)))
    assert constant["low"] < constant["difference"] < constant["high"]
    assert constant["units"] == 0


def test_the_record_names_machine_and_command_but_no_path(uninterrupted):
    text = uninterrupted.results.read_text()
    results = json.loads(text)
    assert results["command"] == "make compare APP=toy PROFILE=quick"
    assert results["data"] == {"coins": "c0" * 32}
    assert results["budget"] == {"units": 40}
    assert set(results["environment"]) == {"python", "torch", "numpy", "cpu", "cores", "os"}
    assert 0 < results["cpu_hours"] < 1
    assert str(uninterrupted.root) not in text


def test_the_profiles_stand_in_files_of_their_own(compared):
    compare("toy", "full", jobs=1)
    full = read_results(compared.results.with_name("toy.json"))
    assert (full["profile"], list(full["data"]), full["seeds"]) == ("full", ["coins", "dice"], 1)
    assert read_results(compared.results)["profile"] == "quick"


def test_a_second_run_fits_nothing_and_leaves_the_test_split_closed(compared):
    before, notes = read_results(compared.results), compared.notes
    compare("toy")
    after = read_results(compared.results)
    assert compared.notes == notes
    for key in ("rows", "intervals", "tested", "choices", "cpu_hours"):
        assert after[key] == before[key]


def test_fresh_runs_every_cell_again_and_the_openings_add_up(compared):
    compare("toy", fresh=True)
    assert len(compared.noted("fit")) == 2 * 9
    tested = {entry["arm"]: entry for entry in read_results(compared.results)["tested"]}
    assert {arm: entry["times"] for arm, entry in tested.items()} == {
        "routed": 4,
        "dense_active": 4,
        "constant": 2,
    }
    routed = tested["routed"]
    assert sorted(opening["seed"] for opening in routed["openings"]) == [0, 0, 1, 1]
    assert routed["last"] == max(opening["at"] for opening in routed["openings"])


def test_openings_of_another_budget_stay_on_record_even_without_the_ledger(compared):
    (compared.home / "ledger.jsonl").unlink()
    compared.config.write_text(compared.config.read_text().replace("units: 40", "units: 50"))
    compare("toy")
    tested = [entry for entry in read_results(compared.results)["tested"] if entry["arm"] == "routed"]
    assert [(entry["current"], entry["times"]) for entry in tested] == [(False, 2), (True, 2)]


def test_cells_of_other_code_are_kept_counted_and_warned_of(compared, capsys):
    (compared.folder / "toy" / "model.py").write_text("WIDTH = 2\n")
    compare("toy")
    assert "9 of 9 cells were run by other code" in capsys.readouterr().out
    code = read_results(compared.results)["code"]
    assert list(code["cells"].values()) == [9]
    assert code["now"] not in code["cells"]
    assert len(compared.noted("fit")) == 9


def test_a_comment_is_no_other_code(compared, capsys):
    source = compared.folder / "toy" / "compare.py"
    source.write_text(source.read_text() + "\n# a comment\n")
    compare("toy")
    assert "other code" not in capsys.readouterr().out


def test_a_broken_cell_is_reported_the_others_go_on_and_nothing_is_written(toy, monkeypatch, capsys):
    monkeypatch.setenv("TOY_FAIL", "coins/dense_active/1/1")
    with pytest.raises(
        UserError, match=r"1 of 9 cells failed.*dense_active.*seed 1: RuntimeError: the toy broke"
    ):
        compare("toy")
    assert "FAILED coins dense_active" in capsys.readouterr().out
    assert len(toy.noted("test")) == 4
    assert not toy.results.exists()
    monkeypatch.delenv("TOY_FAIL")
    compare("toy")
    assert sorted(toy.noted("test")) == sorted(FINALS)
    assert toy.results.exists()


def test_a_broken_trial_keeps_its_arm_from_the_test_split(toy, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "coins/routed/2/0")
    with pytest.raises(UserError, match="1 of 7 cells failed"):
        compare("toy")
    assert {cell.split("/")[1] for cell in toy.noted("test")} == {"dense_active", "constant"}


def test_a_diverged_trial_loses(toy, monkeypatch):
    monkeypatch.setenv("TOY_DIVERGE", "coins/routed/1/0")
    compare("toy")
    choice = next(choice for choice in read_results(toy.results)["choices"] if choice["arm"] == "routed")
    assert choice["chosen"] == {"offset": 2}
    assert [trial["validation"] for trial in choice["trials"]] == [2, None]


def test_a_second_comparison_at_the_same_time_is_refused(toy):
    with only_one(toy.home, "toy"), pytest.raises(UserError, match="another comparison of toy is running"):
        compare("toy")
    assert toy.notes == []


def test_bad_requests_are_refused_before_anything_runs(toy):
    with pytest.raises(UserError, match="--jobs is 0"):
        compare("toy", jobs=0)
    with pytest.raises(UserError, match="no app"):
        compare("nothing")
    toy.config.write_text(
        "profiles: {quick: {data: [coins], arms: [routed, greedy], seeds: 5, budget: {units: 4}}}"
    )
    with pytest.raises(UserError, match="greedy has 3 validation trials where routed has 2"):
        compare("toy")
    toy.config.write_text(
        "profiles: {quick: {data: [coins], arms: [routed, gready], seeds: 5, budget: {units: 4}}}"
    )
    with pytest.raises(UserError, match="names the arm gready: use one of routed, dense_active"):
        compare("toy")
    assert toy.notes == []
